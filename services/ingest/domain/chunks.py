"""Cuts sections into chunks: a clause is a chunk; long text is cut at sentence ends, with overlap."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from contracts.documents import Chunk
from services.ingest.domain.blocks import Reading
from services.ingest.domain.clauses import follows, item_letter
from services.ingest.domain.outline import Section, outline
from services.ingest.domain.units import Unit, text_of, units_of
from services.ingest.domain.windows import OVERLAP, tail, windows

LONG = 256  # what the encoder reads: clauses beyond it are cut at their items (a), (b), …, tables between their rows
LOT = 100  # a lot of rows: few enough that one row among them is found by its number or name
_PATH = " › "


class _Piece(Struct, frozen=True):
    """The units of one chunk, and what is cited for them."""

    units: list[Unit]
    clause: str
    section: str


def cut(document: str, reading: Reading) -> list[Chunk]:
    """The chunks of a document in reading order, ids `<document>#<ordinal>` from 0."""
    pieces = [piece for section in outline(reading) for piece in _pieces(section)]
    return [_chunk(document, ordinal, piece) for ordinal, piece in enumerate(pieces)]


def _chunk(document: str, ordinal: int, piece: _Piece) -> Chunk:
    own = [unit for unit in piece.units if not unit.is_lead]
    return Chunk(
        id=f"{document}#{ordinal}",
        ordinal=ordinal,
        text=text_of(piece.units),
        section=piece.section,
        clause=piece.clause,
        page=own[0].page,
        page_end=max(unit.page_end for unit in own),
        tokens=sum(unit.tokens for unit in piece.units),
    )


def _pieces(section: Section) -> Iterator[_Piece]:
    path = _PATH.join(section.path)
    heading = units_of([section.heading] if section.heading else [])
    body = [replace(unit, block=unit.block + 1) for unit in units_of(section.blocks)]
    if sum(unit.tokens for unit in [*heading, *body]) <= LONG:
        yield _Piece([*heading, *body], section.clause, path)
        return
    for is_table, run in _runs(body):
        if is_table:
            yield from _lots(run, _leading(heading), section.clause, path)
        else:
            yield from _prose([*heading, *run], section.clause, path)
            heading = _leading(heading)


def _runs(units: Sequence[Unit]) -> Iterator[tuple[bool, list[Unit]]]:
    """Tables and the text between them; a small table belongs to the text around it."""
    prose: list[Unit] = []
    for is_row, run in groupby(units, key=lambda unit: unit.is_row):
        part = list(run)
        if not is_row or sum(unit.tokens for unit in part) <= LOT:
            prose += part
            continue
        if prose:
            yield False, prose
            prose = []
        yield True, part
    if prose:
        yield False, prose


def _leading(units: Sequence[Unit]) -> list[Unit]:
    return [replace(unit, is_lead=True) for unit in units]


def _lots(rows: Sequence[Unit], heading: list[Unit], clause: str, path: str) -> Iterator[_Piece]:
    """A table in lots of at most 100 tokens; the section says which rows, where there are several lots."""
    lots: list[list[Unit]] = [[]]
    for row in rows:
        if lots[-1] and sum(unit.tokens for unit in lots[-1]) + row.tokens > LOT:
            lots.append([])
        lots[-1].append(row)
    first = 1
    for lot in lots:
        label = f"rows {first}–{first + len(lot) - 1}" if len(lots) > 1 else ""
        yield _Piece([*heading, *lot], clause, _PATH.join(part for part in (path, label) if part))
        first += len(lot)


def _prose(units: Sequence[Unit], clause: str, path: str) -> Iterator[_Piece]:
    """A long clause cut at "(a)", "(b)", …, each item led in by the words before "(a)"; other text in windows."""
    starts = _item_starts(units) if clause and sum(unit.tokens for unit in units) > LONG else []
    if len(starts) < 2:
        yield from (_Piece(window, clause, path) for window in windows(units))
        return
    opening = list(units[: starts[0][0]])
    is_short = sum(unit.tokens for unit in opening) <= OVERLAP
    if not is_short:
        yield from (_Piece(window, clause, path) for window in windows(opening))
    lead = _leading(opening if is_short else tail(opening))
    ends = [start for start, _ in starts[1:]] + [len(units)]
    for (start, letter), end in zip(starts, ends, strict=True):
        for window in windows([*lead, *units[start:end]]):
            yield _Piece(window, f"{clause}({letter})", path)


def _item_starts(units: Sequence[Unit]) -> list[tuple[int, str]]:
    """Where the items of a clause begin, and their letters."""
    starts: list[tuple[int, str]] = []
    for i, unit in enumerate(units):
        is_first = i == 0 or units[i - 1].block != unit.block
        letter = item_letter(unit.text) if is_first else ""
        if letter and follows(letter, starts[-1][1] if starts else ""):
            starts.append((i, letter))
    return starts
