"""Reads the items of a batch from a file: JSON lines, or CSV with a header.

A line that is wrong is not refused here: it is sent on as it is, so that it fails alone and with its reason. Only a
file that holds no items at all raises UsageError.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from client.errors import UsageError

TEXT_COLUMNS = ("question", "id", "context")
DOCUMENT = "document"
DEADLINE = "deadline_s"
COLUMNS = (*TEXT_COLUMNS, DOCUMENT, DEADLINE)


def read_items(path: Path) -> list[bytes]:
    """One line of JSON an item. Raises UsageError for a file that is missing, empty or a CSV without a known column."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such file; expected JSON lines or a CSV with a header") from None
    lines = _csv_lines(path, data) if path.suffix.lower() in (".csv", ".tsv") else _json_lines(data)
    if not lines:
        raise UsageError(f"{path}: holds no items")
    return lines


def documents_of(lines: list[bytes]) -> dict[int, str]:
    """Which items name a document by a path, which then has to be stored: place and path."""
    found = {}
    for n, line in enumerate(lines):
        item = _object(line)
        if item and isinstance(item.get(DOCUMENT), str):
            found[n] = str(item[DOCUMENT])
    return found


def with_document(line: bytes, path: str, claim: str) -> bytes:
    """The item with a document that has been stored; without a claim (there is no such file) it fails with its name."""
    item = dict(_object(line) or {})
    item[DOCUMENT] = {"name": Path(path).name if claim else path, "claim": claim}
    return msgspec.json.encode(item)


def _json_lines(data: bytes) -> list[bytes]:
    return [line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]


def _object(line: bytes) -> Mapping[str, object] | None:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _csv_lines(path: Path, data: bytes) -> list[bytes]:
    text = data.decode("utf-8-sig", errors="surrogateescape")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip() for name in next(rows, [])]
    if not {"question", "context", DOCUMENT} & set(header):
        raise UsageError(
            f"{path}, line 1: expected a header with a column question, context or document, got {', '.join(header)!r}"
        )
    return [_csv_item(header, row, rows.line_num) for row in rows if any(cell.strip() for cell in row)]


def _csv_item(header: list[str], row: list[str], line: int) -> bytes:
    if len(row) > len(header):
        return _encode(
            f"line {line}: expected {len(header)} columns, got {len(row)}"
        )  # no object: it fails as malformed
    given = {name: cell for name, cell in zip(header, row, strict=False) if cell != ""}
    item: dict[str, object] = {name: given[name] for name in (*TEXT_COLUMNS, DOCUMENT) if name in given}
    if DEADLINE in given:
        item[DEADLINE] = _number(given[DEADLINE])
    if variables := {name: cell for name, cell in given.items() if name not in COLUMNS}:
        item["variables"] = variables
    return _encode(item)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # fails as malformed, with its field's name


def _encode(value: object) -> bytes:
    """JSON; bytes that are no UTF-8 stay wrong on the wire, so that the item fails."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", errors="surrogateescape")


def question_of(line: bytes) -> str | None:
    """The question of an item; None where it has none or the line is wrong."""
    item = _object(line)
    question = item.get("question") if item else None
    return question if isinstance(question, str) else None
