"""Cuts sections into chunks: a clause is a chunk; long text is cut at sentence ends, with overlap."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from contracts.documents import Chunk
from services.ingest.domain.blocks import Block, Reading
from services.ingest.domain.clauses import follows, item_letter
from services.ingest.domain.outline import Section, outline
from shared.text import count_tokens, sentences

CEILING = 1200
FLOOR = 800
OVERLAP = 150
LONG_CLAUSE = 256  # a clause longer than this is cut at its items (a), (b), …
_LONGEST_UNIT = 200
_LONGEST_UNIT_CHARS = 2000  # a "word" of any length counts as one token
_PATH = " › "


class Unit(Struct, frozen=True):
    """What is never cut: a sentence, a table row, a heading line. `block` tells which units share a paragraph."""

    text: str
    tokens: int
    block: int
    page: int
    page_end: int


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
    return Chunk(
        id=f"{document}#{ordinal}",
        ordinal=ordinal,
        text=text_of(piece.units),
        section=piece.section,
        clause=piece.clause,
        page=piece.units[0].page,
        page_end=max(unit.page_end for unit in piece.units),
        tokens=sum(unit.tokens for unit in piece.units),
    )


def text_of(units: Sequence[Unit]) -> str:
    """Sentences of a paragraph follow each other, paragraphs and rows are parted by an empty line."""
    parts = [units[0].text]
    for before, unit in pairwise(units):
        parts.append((" " if unit.block == before.block else "\n\n") + unit.text)
    return "".join(parts)


def units_of(blocks: Sequence[Block]) -> list[Unit]:
    """Blocks as units of at most 200 tokens."""
    texts = [(text, i) for i, block in enumerate(blocks) for text in _sentences(block)]
    counts = count_tokens([text for text, _ in texts])
    units: list[Unit] = []
    for (text, i), tokens in zip(texts, counts, strict=True):
        for part, size in _halved(text, tokens):
            units.append(Unit(part, size, i, blocks[i].page, max(blocks[i].page, blocks[i].page_end)))
    return units


def _sentences(block: Block) -> list[str]:
    return sentences(block.text) if block.kind == "text" else [" ".join(block.text.split())]


def _halved(text: str, tokens: int) -> Iterator[tuple[str, int]]:
    """A sentence beyond 200 tokens is halved at a space, or anywhere where it has none, until it fits."""
    if tokens <= _LONGEST_UNIT and len(text) <= _LONGEST_UNIT_CHARS:
        yield text, tokens
        return
    middle = text.find(" ", len(text) // 2)
    middle = middle if middle > 0 else text.rfind(" ", 0, len(text) // 2)
    middle = middle if middle > 0 else len(text) // 2
    halves = [text[:middle].strip(), text[middle:].strip()]
    for half, size in zip(halves, count_tokens(halves), strict=True):
        yield from _halved(half, size)


def _pieces(section: Section) -> Iterator[_Piece]:
    path = _PATH.join(section.path)
    own = [section.heading] if section.heading else []
    units = units_of([*own, *section.blocks])
    if section.clause and sum(unit.tokens for unit in units) > LONG_CLAUSE:
        for clause, part in _items(units, section.clause):
            yield from (_Piece(window, clause, path) for window in windows(part))
    else:
        yield from (_Piece(window, section.clause, path) for window in windows(units))


def _items(units: Sequence[Unit], clause: str) -> Iterator[tuple[str, list[Unit]]]:
    """A long clause cut at "(a)", "(b)", …: each item is led in by the words before "(a)"."""
    starts: list[tuple[int, str]] = []
    for i, unit in enumerate(units):
        is_first = i == 0 or units[i - 1].block != unit.block
        letter = item_letter(unit.text) if is_first else ""
        if letter and follows(letter, starts[-1][1] if starts else ""):
            starts.append((i, letter))
    if len(starts) < 2:
        yield clause, list(units)
        return
    lead = list(units[: starts[0][0]])
    lead = lead if sum(unit.tokens for unit in lead) <= OVERLAP else _tail(lead)
    ends = [start for start, _ in starts[1:]] + [len(units)]
    if len(lead) < starts[0][0]:
        yield clause, list(units[: starts[0][0]])
    for (start, letter), end in zip(starts, ends, strict=True):
        yield f"{clause}({letter})", [*lead, *units[start:end]]


def windows(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Stretches of 800–1,200 tokens, each beginning with the last 150 or so of the one before; a short text is one."""
    left = sum(unit.tokens for unit in units)  # from `start` on
    start, fresh = 0, 0  # a window begins at `start`; what it adds begins at `fresh`
    while left > CEILING:
        are_two_enough = left <= 2 * CEILING - 2 * OVERLAP
        end = _end(units, start, fresh, max(FLOOR, (left + OVERLAP) // 2) if are_two_enough else CEILING)
        yield list(units[start:end])
        begin = end - len(_tail(units[fresh:end]))
        left -= sum(unit.tokens for unit in units[start:begin])
        start, fresh = begin, end
    yield list(units[start:])


def _end(units: Sequence[Unit], start: int, fresh: int, goal: int) -> int:
    """Where a window ends: the first unit that brings it to the goal, or the last before the ceiling."""
    size = 0
    for i in range(start, len(units)):
        if i > fresh and (size >= goal or size + units[i].tokens > CEILING):
            return i
        size += units[i].tokens
    return len(units)


def _tail(units: Sequence[Unit]) -> list[Unit]:
    """The last units that make 150 tokens as nearly as whole units can; never all of them."""
    size = 0
    for count, unit in enumerate(reversed(units[1:])):
        if abs(size + unit.tokens - OVERLAP) >= abs(size - OVERLAP):
            return list(units[len(units) - count :])
        size += unit.tokens
    return list(units[1:])
