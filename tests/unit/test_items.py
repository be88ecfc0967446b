"""Reading the items of a batch from files."""

import json
from pathlib import Path

import pytest

from client.errors import UsageError
from client.items import documents_of, question_of, read_items, with_document


def written(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read_csv(tmp_path: Path, content: bytes) -> list[object]:
    return [json.loads(line) for line in read_items(written(tmp_path, "items.csv", content))]


def test_json_lines_are_taken_as_they_are_also_the_bad_ones(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"question": "a"}\r\n\n{"question": \n  not json\n\xff\xfe\n'
    assert read_items(written(tmp_path, "items.jsonl", content)) == [
        b'{"question": "a"}',
        b'{"question":',
        b"not json",
        b"\xff\xfe",
    ]


def test_csv_columns_become_fields_and_the_others_variables(tmp_path: Path) -> None:
    content = b'question,id,tone,deadline_s\n"Why, then?",7,warm,2.5\nHow?,,,\n'
    assert read_csv(tmp_path, content) == [
        {"question": "Why, then?", "id": "7", "deadline_s": 2.5, "variables": {"tone": "warm"}},
        {"question": "How?"},
    ]


def test_csv_may_use_semicolons_and_lines_within_quotes(tmp_path: Path) -> None:
    assert read_csv(tmp_path, b'id;question\n1;"first\nsecond"\n') == [{"id": "1", "question": "first\nsecond"}]


def test_a_csv_row_with_too_many_columns_is_sent_on_to_fail(tmp_path: Path) -> None:
    items = read_csv(tmp_path, b"question\nfine\none,two\n")
    assert items == [{"question": "fine"}, "line 3: expected 1 columns, got 2"]


def test_a_csv_number_that_is_none_keeps_its_text(tmp_path: Path) -> None:
    assert read_csv(tmp_path, b"question,deadline_s\nq,soon\n") == [{"question": "q", "deadline_s": "soon"}]


def test_csv_bytes_that_are_no_text_stay_wrong(tmp_path: Path) -> None:
    (line,) = read_items(written(tmp_path, "items.csv", b"question\ncaf\xe9\n"))
    assert b"caf\xe9" in line
    with pytest.raises(UnicodeDecodeError):
        json.loads(line)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", b"name,price\na,1\n", "line 1: expected a header with a column question, context or document"),
        ("items.csv", b"question\n", "holds no items"),
        ("items.jsonl", b"\n \n", "holds no items"),
        ("items.csv", b"", "expected a header"),
    ],
)
def test_files_without_items_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_items(written(tmp_path, name, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.jsonl: no such file"):
        read_items(tmp_path / "nothing.jsonl")
    with pytest.raises(UsageError, match="no such file"):
        read_items(tmp_path)


def test_a_document_named_by_its_path_is_found_and_replaced() -> None:
    lines = [b'{"question": "q"}', b'{"document": "a/b.pdf"}', b'{"document": {"name": "x", "text": "y"}}', b"bad"]
    assert documents_of(lines) == {1: "a/b.pdf"}
    stored = json.loads(with_document(lines[1], "a/b.pdf", "claim-1"))
    assert stored == {"document": {"name": "b.pdf", "claim": "claim-1"}}
    missing = json.loads(with_document(lines[1], "a/b.pdf", ""))
    assert missing == {"document": {"name": "a/b.pdf", "claim": ""}}


def test_the_question_of_a_line() -> None:
    assert question_of(b'{"question": "q"}') == "q"
    assert question_of(b'{"question": 7}') is None
    assert question_of(b"[]") is None
    assert question_of(b"{") is None
