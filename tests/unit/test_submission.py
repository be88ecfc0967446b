"""From items to the payload of a submission."""

import msgspec
import pytest

from client.errors import UsageError
from client.submission import INLINE_BYTES, new_job_id, submission, token
from contracts.item import Input
from contracts.job import Job, Options


def test_items_of_all_kinds_travel_in_the_message() -> None:
    draft = submission([Input(question="a"), {"question": "b"}, b'{"question":\n"c"}'], job="j", deadline_s=9)
    job = msgspec.json.decode(draft.payload(), type=Job)
    assert [msgspec.json.decode(item, type=Input).question for item in job.items] == ["a", "b", "c"]
    assert (job.job, job.deadline_s, draft.lines) == ("j", 9, b"")


def test_a_line_that_is_no_json_goes_by_claim_so_that_it_cannot_break_the_message() -> None:
    draft = submission([b'{"question": "a"}', b'{"broken'], options=Options(passages=3))
    assert draft.lines == b'{"question": "a"}\n{"broken'
    job = msgspec.json.decode(draft.payload("claim-1"), type=Job)
    assert (job.items, job.items_claim, job.options.passages) == ([], "claim-1", 3)


def test_many_items_go_by_claim() -> None:
    item = Input(question="x" * 1000)
    count = INLINE_BYTES // 1000
    assert submission([item] * count).lines.count(b"\n") == count - 1
    assert submission([item] * (count // 2)).lines == b""


@pytest.mark.parametrize("word", ["", "a b", "a.b", "*", ">", "x" * 65, "ä", "a\n"])
def test_words_that_cannot_stand_in_a_subject_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="job: expected"):
        token("job", word)


def test_a_new_job_id_is_a_token_and_new() -> None:
    assert token("job", new_job_id()) != new_job_id()
