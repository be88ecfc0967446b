"""From a flat list of blocks to sections: what stands under which heading and which clause number."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from msgspec import Struct

from services.ingest.domain.blocks import GUESSED_LEVEL, Block, Reading
from services.ingest.domain.clauses import PART_DEPTH, Mark, find_mark, has_stop, is_title, run_in_title

_PARAGRAPH_LEVEL = 9  # a numbered paragraph stands below every heading
_UNNUMBERED_GUESS = 9  # depth of a guessed heading: below the numbered ones that look like it
_MAX_GAP = 3  # numbers that a document may leave out before "9." is taken for something else
_LABEL_CHARS = 90


class Section(Struct, frozen=True):
    """A stretch of a document under one heading or clause number."""

    path: tuple[str, ...]  # the headings above it and its own, outermost first
    clause: str
    heading: Block | None  # its own heading line, where it has one
    blocks: list[Block]


class _Entry(Struct, frozen=True):
    """A heading or a clause that is still open."""

    key: tuple[int, int]  # level, depth
    label: str
    mark: Mark | None


def outline(reading: Reading) -> list[Section]:
    """The sections of a document in their order. Headings that only lead to further headings are no section."""
    walk = _Walk(title=reading.title)
    sections = list(walk.sections(list(_joined(reading.blocks))))
    return [
        section
        for section, following in zip_longest(sections, sections[1:])
        if section.blocks or not (following and following.path[: len(section.path)] == section.path)
    ]


def _joined(blocks: Sequence[Block]) -> Iterator[Block]:
    """Blocks, "ARTICLE IV" and a title on the line below it made one."""
    i = 0
    while i < len(blocks):
        block, following = blocks[i], blocks[i + 1 : i + 2]
        mark = find_mark(block.text) if is_title(block.text) else None
        if mark and not mark.rest and following and _is_bare_title(following[0], block):
            yield Block(f"{block.text} {following[0].text}", "heading", block.level, block.page, following[0].page_end)
            i += 2
        else:
            yield block
            i += 1


def _is_bare_title(block: Block, above: Block) -> bool:
    same_look = block.kind == above.kind == "heading" and block.level >= above.level
    capitals = block.kind != "row" and block.text.isupper()
    return (same_look or capitals) and is_title(block.text) and find_mark(block.text) is None


class _Walk:
    """Goes through the blocks and remembers which headings are open and which number came last."""

    def __init__(self, title: str) -> None:
        self._title = title.casefold()
        self._open: list[_Entry] = []
        self._last: tuple[int, ...] = ()

    def sections(self, blocks: Sequence[Block]) -> Iterator[Section]:
        heading: Block | None = None
        body: list[Block] = []
        for block in blocks:
            entry = self._entry(block)
            if entry is None:
                body.append(block)
                continue
            if body or heading:
                yield self._section(heading, body)
            self._enter(entry)
            is_heading = block.kind == "heading" or (entry.mark is not None and is_title(block.text))
            heading, body = (block, []) if is_heading else (None, [block])
        if body or heading:
            yield self._section(heading, body)

    def _section(self, heading: Block | None, body: list[Block]) -> Section:
        clauses = [entry.mark.clause for entry in self._open if entry.mark]
        path = tuple(entry.label for entry in self._open if entry.label)
        return Section(path=path, clause=clauses[-1] if clauses else "", heading=heading, blocks=body)

    def _entry(self, block: Block) -> _Entry | None:
        """The entry that a block opens, or None where it is body text."""
        if block.kind == "row":
            return None
        mark = find_mark(block.text)
        is_numbered = mark is not None and self._plausible(mark, block)
        if block.kind == "heading":
            mark = mark if is_numbered else None
            depth = mark.depth if mark else (_UNNUMBERED_GUESS if block.level >= GUESSED_LEVEL else 1)
            is_title_again = block.text.casefold() == self._title
            return _Entry((block.level, depth), "" if is_title_again else _short(block.text), mark)
        if mark is None or not is_numbered:
            return None
        return _Entry((_PARAGRAPH_LEVEL, mark.depth), _label(block.text, mark), mark)

    def _plausible(self, mark: Mark, block: Block) -> bool:
        """Whether the number goes on from the last one; a number that does not is part of the text."""
        if mark.named or not mark.number:
            return True
        first, last = mark.number[0], self._last[0] if self._last else 0
        if len(mark.number) > 1:
            goes_on = last <= first <= last + _MAX_GAP and mark.number != self._last
            return goes_on or not self._last or block.kind == "heading" or all(part <= 1 for part in mark.number)
        if not (block.kind == "heading" or has_stop(block.text)):
            return False
        inside_decimal = any(entry.mark and len(entry.mark.number) > 1 for entry in self._open)
        return last < first <= last + _MAX_GAP or (first == 1 and not inside_decimal)

    def _enter(self, entry: _Entry) -> None:
        if entry.mark:
            self._close_numbered(entry.mark)
            if entry.mark.number:
                self._last = entry.mark.number
            elif entry.mark.depth == PART_DEPTH:
                self._last = ()
        while self._open and self._open[-1].key >= entry.key:
            self._open.pop()
        self._open.append(entry)

    def _close_numbered(self, mark: Mark) -> None:
        """Close the first open clause that is not above this one, with all that is below it."""
        for i, entry in enumerate(self._open):
            over_it = entry.mark is None and entry.key[0] < GUESSED_LEVEL
            above = over_it or (
                entry.mark is not None and entry.mark.depth < mark.depth and _is_prefix(entry.mark, mark)
            )
            if not above:
                del self._open[i:]
                return


def _is_prefix(outer: Mark, inner: Mark) -> bool:
    return not outer.number or not inner.number or inner.number[: len(outer.number)] == outer.number


def _label(text: str, mark: Mark) -> str:
    """How a numbered paragraph is called in a path: its number and title; empty where it has no title."""
    if is_title(text):
        return _short(text)
    title = run_in_title(mark.rest)
    return f"{text[: len(text) - len(mark.rest)].strip()} {title}" if title else ""


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_CHARS else text[:_LABEL_CHARS].rsplit(" ", 1)[0] + "…"
