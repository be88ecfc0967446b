"""Finds tables among the lines of a page: rows of cells that stand below each other in columns."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from services.ingest.adapters.parsers.pdf_page import Line, Piece
from services.ingest.domain.clauses import find_mark, item_letter
from services.ingest.domain.lines import join

_TALLEST_ROW = 12  # lines of a wrapped cell
_BULLETS = frozenset("•-–—*▪◦·")
_LEADER = re.compile(r"(?:\.\s?){4,}\s*\w{1,5}$")


class Row(Struct, frozen=True):
    """Lines that stand side by side; a plain line of text is a row of its own."""

    lines: list[Line]

    @property
    def pieces(self) -> list[Piece]:
        return [piece for line in self.lines for piece in line.pieces]

    @property
    def top(self) -> float:
        return max(line.top for line in self.lines)

    @property
    def bottom(self) -> float:
        return min(line.bottom for line in self.lines)


class Table(Struct, frozen=True):
    """Rows of cells, all of the same width; empty cells are empty strings."""

    rows: list[list[str]]
    columns: list[float]  # left edges, points
    page: int
    has_head: bool  # the first row names the columns


def find_tables(lines: Sequence[Line]) -> Iterator[Line | Table]:
    """The lines of one page in order, those that make up a table replaced by it; tables of contents are left out."""
    rows = _rows([line for line in lines if not _LEADER.search(line.text)])
    at = 0
    while at < len(rows):
        end = _table_end(rows, at)
        if end == at:
            yield from rows[at].lines
            at += 1
            continue
        table = _table(rows[at:end])
        if not _is_contents(table):
            yield table
        at = end


def _rows(lines: Sequence[Line]) -> list[Row]:
    """Gathers lines that stand side by side, as the wrapped cells of a table's row do."""
    rows: list[Row] = []
    for line in lines:
        back = _beside(rows, line)
        merged = [other for row in rows[len(rows) - back :] for other in row.lines]
        rows[len(rows) - back :] = [Row([*merged, line])]
    return rows


def _beside(rows: Sequence[Row], line: Line) -> int:
    """How many of the last rows the line stands beside; 0 where it is not to the right of all that is on its height."""
    back = 0
    for count, row in enumerate(reversed(rows[-_TALLEST_ROW:]), start=1):
        on_height = [other for other in row.lines if min(other.top, line.top) - max(other.bottom, line.bottom) > 1]
        if any(other.right > line.left for other in on_height):
            return 0
        back = count if on_height else back
        if row.bottom > line.top:
            break
    return back


def _table_end(rows: Sequence[Row], at: int) -> int:
    """The row after the last of the table that begins at `at`; `at` where none begins."""
    if len(rows[at].pieces) < 2:
        return at
    end = at + 1
    columns = _columns(rows[at:end])
    while end < len(rows) and _near(rows[end - 1], rows[end]):
        row = rows[end]
        more = _columns([*rows[at:end], row]) if len(row.pieces) > 1 else columns
        if len(more) < max(2, len(columns) - 1) or not (len(row.pieces) > 1 or _is_within(row, columns, rows, end)):
            break
        columns, end = more, end + 1
    full = [row for row in rows[at:end] if len(row.pieces) > 1]
    return end if len(full) >= 2 and len(columns) >= 2 and not _is_list(full, columns) else at


def _near(above: Row, below: Row) -> bool:
    size = max(piece.size for piece in above.pieces)
    return -size < above.bottom - below.top < 2.5 * size


def _columns(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Left and right edges of the columns: where the pieces of rows with several overlap, they share one."""
    spans = sorted((piece.left, piece.right) for row in rows if len(row.pieces) > 1 for piece in row.pieces)
    columns: list[tuple[float, float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _is_within(row: Row, columns: Sequence[tuple[float, float]], rows: Sequence[Row], at: int) -> bool:
    """Whether a single piece is the rest of a cell above, or a first column alone with the table going on below."""
    piece = row.pieces[0]
    column = _column_of(piece, columns)
    limit = columns[column + 1][0] if column + 1 < len(columns) else columns[column][1] + piece.size * 3
    if piece.right > limit or piece.left < columns[0][0] - piece.size:
        return False
    goes_on = at + 1 < len(rows) and len(rows[at + 1].pieces) > 1 and _near(row, rows[at + 1])
    return column > 0 or goes_on


def _column_of(piece: Piece, columns: Sequence[tuple[float, float]]) -> int:
    """The column that a piece overlaps most, or stands nearest to."""
    return max(range(len(columns)), key=lambda i: min(piece.right, columns[i][1]) - max(piece.left, columns[i][0]))


def _is_list(rows: Sequence[Row], columns: Sequence[tuple[float, float]]) -> bool:
    """Whether the first column holds bullets or clause numbers only: then it is a list with hanging numbers."""
    firsts = [piece.text for row in rows for piece in row.pieces if _column_of(piece, columns) == 0]
    return len(columns) == 2 and all(text in _BULLETS or _is_number(text) for text in firsts)


def _is_number(text: str) -> bool:
    return bool(find_mark(f"{text} X")) or bool(item_letter(f"{text} x"))


def _table(rows: Sequence[Row]) -> Table:
    columns = _columns(rows)
    cells = [_cells(row, columns) for row in rows]
    merged: list[list[str]] = []
    for row in cells:
        if merged and not row[0]:  # the rest of wrapped cells
            merged[-1] = [f"{above} {rest}".strip() for above, rest in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
    head = rows[0].pieces
    is_bold = all(piece.bold for piece in head) and not all(piece.bold for row in rows for piece in row.pieces)
    has_head = is_bold or (len(columns) > 2 and len(head) == len(columns) and not any(map(_has_digit, merged[0][1:])))
    return Table(merged, [left for left, _ in columns], rows[0].lines[0].page, has_head)


def _cells(row: Row, columns: Sequence[tuple[float, float]]) -> list[str]:
    cells: list[list[Piece]] = [[] for _ in columns]
    for piece in row.pieces:
        cells[_column_of(piece, columns)].append(piece)
    return [join([piece.text for piece in sorted(cell, key=_reading)], Counter()) for cell in cells]


def _reading(piece: Piece) -> tuple[float, float]:
    return -round(piece.middle), piece.left


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


def _is_contents(table: Table) -> bool:
    """Whether the last column holds page numbers and the first ones headings."""
    is_paged = all(row[-1].isdecimal() and len(row[-1]) <= 4 for row in table.rows)
    return is_paged and sum(find_mark(" ".join(row[:-1])) is not None for row in table.rows) * 2 >= len(table.rows)
