"""Retrieval sets: what is read, and what is said about files that are not as they should be."""

import random
from pathlib import Path

import pytest

from client.errors import UsageError
from client.eval.beir import read_corpus, read_qrels, read_queries

CORPUS = '{"_id": "1", "text": "one", "document": "d"}\n{"_id": "2", "text": "two", "title": "more is no fault"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\t1\t2\nq1\t2\t0\nq2\t2\t1\n"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_passage_may_name_its_document(tmp_path: Path) -> None:
    rows = read_corpus(write(tmp_path, "c.jsonl", CORPUS))
    assert [(row.id, row.text, row.document) for row in rows] == [("1", "one", "d"), ("2", "two", "")]


def test_only_grades_above_zero_are_relevant(tmp_path: Path) -> None:
    assert read_qrels(write(tmp_path, "q.tsv", QRELS)) == {"q1": {"1": 2}, "q2": {"2": 1}}
    assert read_qrels(write(tmp_path, "bare.tsv", "q1\t1\t1\n")) == {"q1": {"1": 1}}


def test_a_limit_draws_the_same_queries_every_time(tmp_path: Path) -> None:
    names = [f"q{n:02}" for n in range(30)]
    path = write(tmp_path, "q.jsonl", "".join(f'{{"_id": "{name}", "text": "t"}}\n' for name in reversed(names)))
    judged = {name: {"1": 1} for name in names}
    drawn = [row.id for row in read_queries(path, judged, 5)]
    assert drawn == random.Random(7).sample(sorted(names), 5)
    assert len(read_queries(path, judged, 500)) == 30


def test_queries_without_judgement_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "q.jsonl", '{"_id": "q1", "text": "a"}\n{"_id": "q9", "text": "b"}\n')
    assert [row.id for row in read_queries(path, {"q1": {"1": 1}})] == ["q1"]
    with pytest.raises(UsageError, match=r"q\.jsonl: none of its queries"):
        read_queries(path, {"other": {"1": 1}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"_id": "1", "text": "a"}\n{"_id": "2"}\n', r"c\.jsonl, line 2: .*`text`"),
        ('{"_id": 1, "text": "a"}\n', r"c\.jsonl, line 1: .*`str`.*_id"),
        ('{"_id": "1", "text": "a"\n', r"c\.jsonl, line 1: expected a JSON object"),
        ("[]\n", r"c\.jsonl, line 1: .*`object`"),
        ('{"_id": "1", "text": "a"}\n' * 2, r"c\.jsonl, line 2: _id '1' was there before"),
        ("", r"c\.jsonl: expected one JSON object a line"),
        (b'{"_id": "1", "text": "\xff"}\n', r"c\.jsonl: expected UTF-8: .* byte"),
    ],
)
def test_a_malformed_corpus_is_told_by_file_line_and_field(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_corpus(write(tmp_path, "c.jsonl", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q1 1 1\n", r"q\.tsv, line 1: expected query id, passage id and a whole number"),
        ("q1\t1\t1\nq1\t2\thigh\n", r"q\.tsv, line 2: .*'q1\\t2\\thigh'"),
        ("query-id\tcorpus-id\tscore\n", r"q\.tsv: expected at least one line"),
    ],
)
def test_malformed_judgements_are_told_by_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_qrels(write(tmp_path, "q.tsv", text))


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: No such file"):
        read_corpus(tmp_path / "none.jsonl")
