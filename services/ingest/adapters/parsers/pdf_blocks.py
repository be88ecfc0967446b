"""From lines and tables to blocks: paragraphs are joined over line, column and page breaks, headings recognised."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from services.ingest.adapters.parsers.pdf_page import Line
from services.ingest.adapters.parsers.pdf_tables import Table, find_tables
from services.ingest.domain.blocks import GUESSED_LEVEL, Block, Reading, table_row
from services.ingest.domain.clauses import find_mark, is_title, item_letter
from services.ingest.domain.lines import goes_on, join, vocabulary

_LARGER = 1.1  # times the body's size: a heading's font
_TITLE_LARGER = 1.3
_HEADING_WORDS = 18
_BULLETS = ("•", "- ", "– ", "▪", "◦", "· ", "* ")
_STOPS = (".", ":", ";", "!", "?", ")", "”")


class _Look(Struct, frozen=True):
    """What running text looks like in this document. Points."""

    size: float
    gap: float  # between lines of a paragraph
    right: float
    width: float
    words: Counter[str]


class _Paragraph(Struct, frozen=True):
    lines: list[Line]
    text: str
    may_go_on: bool = False  # a page or a column ended before it

    @property
    def size(self) -> float:
        return self.lines[0].size


def blocks_of(pages: Sequence[Sequence[Line]]) -> Reading:
    """Blocks of a whole document; the title is its largest heading on the first page with text."""
    look = _look([line for page in pages for line in page])
    content = [part for page in pages for part in find_tables(page)]
    parts = _mended(list(_paragraphs(content, look)), look)
    sizes = sorted(
        {part.size for part in parts if isinstance(part, _Paragraph) and _is_large(part, look)}, reverse=True
    )
    blocks = list(_blocks(parts, look, {size: rank for rank, size in enumerate(sizes, start=1)}))
    return Reading(blocks=blocks, title=_title(parts, look))


def _look(lines: Sequence[Line]) -> _Look:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    size = sizes.most_common(1)[0][0]
    body = [line for line in lines if line.size == size]
    gaps = [
        above.bottom - line.top
        for above, line in pairwise(body)
        if above.page == line.page and -size < above.bottom - line.top < size
    ]
    rights = sorted(line.right for line in body)
    right = rights[int(0.9 * (len(rights) - 1))]
    width = right - min(line.left for line in body)
    return _Look(size, median(gaps) if gaps else 0.0, right, width, vocabulary(line.text for line in lines))


def _paragraphs(content: Sequence[Line | Table], look: _Look) -> Iterator[_Paragraph | Table]:
    lines: list[Line] = []
    may_go_on = False
    for part in content:
        if lines and (isinstance(part, Table) or _begins(part, lines, look)):
            yield _Paragraph(lines, join([line.text for line in lines], look.words), may_go_on)
            may_go_on = isinstance(part, Line) and _is_new_column(part, lines[-1])
            lines = []
        if isinstance(part, Table):
            yield part
        else:
            lines.append(part)
    if lines:
        yield _Paragraph(lines, join([line.text for line in lines], look.words), may_go_on)


def _is_new_column(line: Line, above: Line) -> bool:
    return line.page != above.page or line.bottom > above.top


def _begins(line: Line, lines: Sequence[Line], look: _Look) -> bool:
    """Whether a line begins a new paragraph."""
    above = lines[-1]
    if _is_new_column(line, above):
        return True  # mended later
    if abs(line.size - above.size) > 0.6 or (
        line.bold != above.bold and (line.bold or (above.bold and len(lines) < 3))
    ):
        return True
    if above.bottom - line.top > look.gap + 0.35 * line.size or line.text.startswith(_BULLETS):
        return True
    if lines[0].text.startswith(_BULLETS) and line.left < lines[-1].left - 0.5 * line.size and len(lines) > 1:
        return True
    is_short = above.right < look.right - 0.12 * look.width
    has_stop = above.text.endswith(_STOPS)
    if find_mark(line.text) or item_letter(line.text):
        return is_short or has_stop
    return is_short and has_stop and above.text[-1] not in ",;"


def _is_large(paragraph: _Paragraph, look: _Look) -> bool:
    return paragraph.size >= _LARGER * look.size and len(paragraph.text.split()) <= _HEADING_WORDS


def _is_heading(paragraph: _Paragraph, look: _Look) -> bool:
    if _is_large(paragraph, look):
        return True
    stands_out = all(line.bold for line in paragraph.lines) or paragraph.text.isupper()
    return stands_out and is_title(paragraph.text) and len(paragraph.lines) <= 2 and len(paragraph.text) > 2


def _blocks(parts: Sequence[_Paragraph | Table], look: _Look, ranks: dict[float, int]) -> Iterator[Block]:
    last: Table | None = None
    for part in parts:
        if isinstance(part, Table):
            header = _header(part, last)
            yield from _rows(part, header)
            last = replace(part, rows=[header, *part.rows], has_head=bool(header)) if header else part
            continue
        page, page_end = part.lines[0].page, part.lines[-1].page
        if _is_heading(part, look):
            level = min(ranks.get(part.size, GUESSED_LEVEL), GUESSED_LEVEL)
            yield Block(part.text, "heading", level, page, page_end)
        else:
            yield Block(part.text, "text", 0, page, page_end)


def _header(table: Table, last: Table | None) -> list[str]:
    """The column names: the table's own, or those of the table that it goes on with from the page before."""
    if table.has_head:
        return table.rows[0]
    is_same = last is not None and last.has_head and len(last.columns) == len(table.columns)
    if last is not None and is_same and table.page == last.page + 1:
        return last.rows[0]
    return []


def _rows(table: Table, header: list[str]) -> Iterator[Block]:
    for row in table.rows:
        filled = [cell for cell in row if cell]
        if row == header or not filled:
            continue
        is_pair = not header and len(filled) == 2 and len(row) == 2
        text = f"{row[0].rstrip(':')}: {row[1]}" if is_pair else table_row(header, row)
        yield Block(text if len(filled) > 1 else filled[0], "row", 0, table.page, table.page)


def _mended(parts: Sequence[_Paragraph | Table], look: _Look) -> list[_Paragraph | Table]:
    """Paragraphs that a page or a column break cut in two are made whole."""
    whole: list[_Paragraph | Table] = []
    for part in parts:
        above = whole[-1] if whole else None
        if isinstance(part, _Paragraph) and isinstance(above, _Paragraph) and _is_rest(above, part, look):
            text = join([above.text, part.text], look.words)
            whole[-1] = replace(above, lines=[*above.lines, *part.lines], text=text)
        else:
            whole.append(part)
    return whole


def _is_rest(above: _Paragraph, part: _Paragraph, look: _Look) -> bool:
    is_new = find_mark(part.text) or item_letter(part.text) or part.text.startswith(_BULLETS)
    is_text = not (_is_heading(above, look) or _is_heading(part, look))
    return part.may_go_on and is_text and not is_new and goes_on(above.text, part.text)


def _title(parts: Sequence[_Paragraph | Table], look: _Look) -> str:
    first = next((part.lines[0].page for part in parts if isinstance(part, _Paragraph)), 0)
    large = [
        part
        for part in parts
        if isinstance(part, _Paragraph) and part.lines[0].page == first and part.size >= _TITLE_LARGER * look.size
    ]
    return max(large, key=lambda part: part.size).text if large else ""
