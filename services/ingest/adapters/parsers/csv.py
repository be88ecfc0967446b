"""CSV: every row with its column names, so that it can be read alone."""

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO

from services.ingest.domain.blocks import Block, Reading, table_row
from shared.errors import ItemError

_DELIMITERS = (",", ";", "\t", "|")
_PROBE_LINES = 20
_NUMBER = re.compile(r"^[-+]?[\d.,]*\d[\d.,]*\s*%?$")
_YEAR = re.compile(r"^(?:19|20)\d\d$")
_FIELD_CHARS = 100_000


def parse(name: str, text: str) -> Reading:
    """Rows as "column: value; …"; raises ItemError `unreadable` where the header is missing or rows are ragged."""
    rows = _rows(name, text)
    header = next(rows, None)
    if header is None:
        raise ItemError("unreadable", f"{name}: no rows; expected a header row with column names")
    names = _header(name, header[1])
    blocks: list[Block] = []
    for line, row in rows:
        if len(row) != len(names):
            raise ItemError(
                "unreadable", f"{name}, line {line}: expected {len(names)} fields as in the header, got {len(row)}"
            )
        blocks.append(Block(table_row(names, row), "row"))
    if not blocks:
        raise ItemError("unreadable", f"{name}: only a header; expected at least one row below it")
    return Reading(blocks=blocks)


def _rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row that is not empty."""
    csv.field_size_limit(_FIELD_CHARS)
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(name, text), strict=True)
    try:
        for row in reader:
            fields = [" ".join(field.split()) for field in row]
            if any(fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise ItemError("unreadable", f"{name}, line {reader.line_num}: not valid CSV ({error})") from None


def _delimiter(name: str, text: str) -> str:
    """The delimiter that parts the first lines into the most columns, equally many in most of them."""
    if name.lower().endswith(".tsv"):
        return "\t"
    lines = [line for line in text.split("\n")[:_PROBE_LINES] if line.strip()]

    def fit(delimiter: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return (sum(width == widths[0] for width in widths) if widths and widths[0] > 1 else 0, max(widths, default=0))

    return max(_DELIMITERS, key=fit)


def _header(name: str, row: Sequence[str]) -> list[str]:
    for column, cell in enumerate(row, start=1):
        if not cell:
            raise ItemError("unreadable", f"{name}: the header names no column {column}; expected a name for each")
        if _NUMBER.match(cell) and not _YEAR.match(cell):
            raise ItemError("unreadable", f"{name}: the first row holds {cell!r}; expected a header with column names")
    if len(set(row)) != len(row):
        twice = next(cell for cell in row if row.count(cell) > 1)
        raise ItemError("unreadable", f"{name}: the header names {twice!r} twice; expected different column names")
    return list(row)
