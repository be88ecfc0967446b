"""What is wrong with a user's JSON, in one line of the user's words."""

import msgspec
import pytest

from contracts.item import Input
from contracts.job import Job
from shared.explain import Undecodable, explain


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b'{"question":7}', Input, "it.question: expected str, got int"),
        (b'{"filters":{"a":[1]}}', Input, "it.filters[...][0]: expected str, got int"),
        (b'{"document":{}}', Input, "it.document: object missing required field name"),
        (b"[]", Input, "it: expected object, got array"),
        (b'{"itmes":[]}', Job, "it: object contains unknown field itmes"),
        (b'{"lane":"fast"}', Job, "it.lane: invalid enum value 'fast'"),
        (b'{"options":{"passages":"5"}}', Job, "it.options.passages: expected int, got str"),
        (b"", Job, "it: not valid JSON: input data was truncated"),
        (b'{"items":', Job, "it: not valid JSON: input data was truncated"),
        (b"nonsense", Job, "it: not valid JSON: invalid character (byte 4)"),
        (b'{"job":"1",}', Job, "it: not valid JSON: trailing comma in object (byte 11)"),
        (b'{"job":"ok \xff"}', Job, "it: not UTF-8: the byte 0xff after 'ok ' begins no character"),
        (b'{"job":"\xff"}', Job, "it: not UTF-8: the byte 0xff at the start of a text begins no character"),
        (b'{"options":{"schema":{"a":' + b"[" * 20000, Job, "it: nested too deeply"),
    ],
)
def test_field_expectation_and_find_in_one_line(payload: bytes, kind: type[msgspec.Struct], text: str) -> None:
    with pytest.raises(Undecodable) as raised:
        msgspec.json.decode(payload, type=kind)
    assert explain(raised.value, "it") == text
