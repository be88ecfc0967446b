"""Schemas that would stop a replica: every check ends, and says why where it has no answer."""

import asyncio
import json
import re
import signal
import time

import pytest
from jsonschema import Draft202012Validator

from contracts.item import Completion, Tool, ToolCall
from contracts.job import Options
from services.generate_gpu.domain.output import Invalid, checker, parsed
from services.generate_gpu.domain.tools import checked_calls, tool_call
from services.route.domain.options import check_options
from shared.errors import ItemError, Rejected
from shared.models import load_catalogue
from shared.schema_check import Uncheckable, mismatch, validator_of

pytestmark = pytest.mark.timeout(30)

EVIL = "^(a+)+$"
TEXT = "a" * 40 + "b"
HIDDEN = "a part that is referred to is no JSON Schema"
SLOW = "a check takes more than 1 s"

DRAFT_7 = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, object]


def bomb(depth: int, start: Schema | None = None) -> Schema:
    """Every level asks the next one twice; `start` asks the first one, else the schema itself does."""
    levels: Schema = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return (start or {"$ref": "#/$defs/d0"}) | {"$defs": levels | {f"d{depth}": {"type": "object"}}}


EVILS: list[tuple[Schema, str]] = [
    ({"properties": {"a": {"pattern": EVIL}}}, f'{{"a": "{TEXT}"}}'),
    ({"patternProperties": {EVIL: {}}}, f'{{"{TEXT}": 1}}'),
    ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, f'{{"{TEXT}": 1}}'),
    ({"patternProperties": {EVIL: {}}, "unevaluatedProperties": False}, f'{{"{TEXT}": 1}}'),
    ({"properties": {"a": {"$schema": DRAFT_7, "pattern": EVIL}}}, f'{{"a": "{TEXT}"}}'),
    (bomb(40, {"properties": {"a": {"$ref": "#/$defs/d0"}}}), '{"a": {}}'),
    ({"uniqueItems": True}, json.dumps([{"n": n} for n in range(20_000)])),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "text"), EVILS)
def test_a_check_that_would_not_end_fails_the_item_and_names_the_field(schema: Schema, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(ItemError, match=f"^options.schema: {SLOW}") as caught:
        parsed(text, checker(schema))
    assert caught.value.code == "malformed"
    assert time.monotonic() - began < 10


def test_so_does_one_of_a_tools_arguments() -> None:
    tool = Tool("find", parameters={"properties": {"a": {"pattern": EVIL}}})
    with pytest.raises(ItemError, match=rf"^options.tools: find.parameters: {SLOW}"):
        checked_calls(Completion("", "m", tool_calls=[ToolCall("find", {"a": TEXT})]), [tool])


def test_afterwards_nothing_is_interrupted() -> None:
    test_so_does_one_of_a_tools_arguments()
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    signal.raise_signal(signal.SIGVTALRM)


async def test_others_have_their_turn_after_it() -> None:
    heard = asyncio.create_task(asyncio.sleep(0, "alive"))
    test_so_does_one_of_a_tools_arguments()
    assert await asyncio.wait_for(heard, 1) == "alive"


def test_honest_patterns_are_checked_as_before() -> None:
    schema: Schema = {
        "properties": {"code": {"pattern": r"^(?!X)[A-Z]\d+$"}},
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert parsed('{"code": "A17", "x-n": 1}', checker(schema)) == {"code": "A17", "x-n": 1}
    assert str(parsed('{"code": "X17"}', checker(schema))).startswith("$.code: expected pattern")
    assert str(parsed('{"x-n": "1"}', checker(schema))).startswith("$['x-n']: expected integer")
    assert str(parsed('{"more": 1}', checker(schema))).startswith("$: expected no other fields")


def test_a_model_that_only_opens_brackets_is_told_so() -> None:
    assert isinstance(parsed("[" * 200_000, checker({})), Invalid)
    assert tool_call("find", '{"a":' * 200_000).raw


def test_blanks_behind_a_fence_take_no_time() -> None:
    began = time.monotonic()
    assert isinstance(parsed("```json\n" + " " * 400_000, checker({})), Invalid)
    assert time.monotonic() - began < 1


REFUSED: list[tuple[Schema, str]] = [
    ({"properties": {"a": {"pattern": "("}}}, "not a JSON Schema: $.properties.a.pattern: '(' is not a 'regex'"),
    ({"patternProperties": {"(": {}}}, "not a JSON Schema: $.patternProperties: '(' is not a 'regex'"),
    ({"$ref": "#"}, "refers to itself without end"),
    ({"$ref": "#/more", "more": {"type": "strnig"}}, f"{HIDDEN}: Unknown type 'strnig'"),
    ({"$ref": "#/more", "more": {"required": 3}}, HIDDEN),
    ({"$ref": "http://127.0.0.1:9/schema.json"}, "cannot resolve 'http://127.0.0.1:9/schema.json'"),
    (bomb(40), SLOW),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason"), REFUSED)
def test_what_nothing_can_be_checked_against_is_refused_when_the_job_is_opened(schema: Schema, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^options.schema: {re.escape(reason)}"):
        check_options(Options(schema=schema), load_catalogue())
    with pytest.raises(ItemError, match=f"^options.schema: {re.escape(reason)}"):
        checker(schema)


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: Schema = {}
    for _ in range(900):
        schema = {"items": schema}
    with pytest.raises(Uncheckable, match="nested too deep"):
        validator_of(schema)


def test_a_fault_that_only_data_reach_is_an_error_too() -> None:
    hidden: Schema = {"properties": {"a": {"$ref": "#/more"}}, "more": {"pattern": "("}}
    validator: Draft202012Validator = validator_of(hidden)
    with pytest.raises(Uncheckable, match="no JSON Schema: missing"):
        mismatch(validator, {"a": "x"})
