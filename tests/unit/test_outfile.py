"""The file of results: resumable, in order at the end, and never somebody else's."""

from pathlib import Path

import msgspec
import pytest

from client.errors import UsageError
from client.outfile import OutFile
from contracts.item import Answer, Failure, Usage
from contracts.job import ItemResult


def good(n: int) -> ItemResult:
    return ItemResult(n, answer=Answer(f"a{n}"), usage=Usage(prompt_tokens=10, cost_usd=0.5))


def bad(n: int) -> ItemResult:
    return ItemResult(n, failure=Failure("malformed", "no question", "route"))


def lines(path: Path) -> list[ItemResult]:
    return [msgspec.json.decode(line, type=ItemResult) for line in path.read_bytes().splitlines()]


def test_results_come_in_any_order_and_end_in_theirs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with OutFile(path, "job-1", 3) as out:
        for result in (good(2), bad(0), good(1)):
            assert out.add(result)
        assert not out.add(good(1))
        assert not out.add(good(3))
        out.sort()
    assert [result.n for result in lines(path)] == [0, 1, 2]
    assert {result.job for result in lines(path)} == {"job-1"}


def test_what_is_there_counts_and_half_a_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with OutFile(path, "job-1", 4) as out:
        out.add(good(0))
        out.add(bad(2))
    path.write_bytes(path.read_bytes() + b'{"n": 1, "answ')
    with OutFile(path, "job-1", 4) as out:
        assert out.missing == [1, 3]
        assert (out.counts.succeeded, out.counts.failed) == (1, 1)
        assert out.counts.usage.cost_usd == 0.5
        out.add(good(1))
        out.add(good(3))
    assert [result.n for result in lines(path)] == [0, 2, 1, 3]


def test_failed_items_can_be_dropped_to_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with OutFile(path, "job-1", 3) as out:
        for result in (bad(0), good(1), bad(2)):
            out.add(result)
        out.drop_failed()
        assert out.missing == [0, 2]
        assert (out.counts.succeeded, out.counts.failed) == (1, 0)
        out.add(good(0))
        out.sort()
    assert [result.n for result in lines(path)] == [0, 1]


@pytest.mark.parametrize("content", [b'{"question": "an input file"}\n', b"some notes\nof mine\n", b"\xff\xfe\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds something else than results"), OutFile(path, "job-1", 3):
        pass
    assert path.read_bytes() == content


def test_results_of_another_batch_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with OutFile(path, "job-1", 1) as out:
        out.add(good(0))
    with pytest.raises(UsageError, match="another batch"), OutFile(path, "job-2", 1):
        pass
    with OutFile(path, "job-1", 1) as out:
        assert out.missing == []
