"""HTML, through selectolax: headings, paragraphs, tables as rows; nothing that is not read on the page."""

import re
from collections.abc import Iterator, Sequence

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.ingest.domain.blocks import Block, Kind, Reading, table_row
from shared.errors import ItemError

_DROPPED = (
    "script, style, noscript, template, nav, footer, aside, svg, iframe, form, head link, [hidden], [role=navigation]"
)
_BLOCKS = frozenset(
    """address article blockquote body br dd details div dl dt fieldset figcaption figure footer h1 h2 h3 h4 h5 h6
    header hr html li main ol
    p pre section summary table tbody td th thead tr ul""".split()  # noqa: SIM905  too many to quote
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.I)
_TAG = re.compile(r"<[a-zA-Z!/][^>]*>")
_DEEPEST = 512
_MOST_OPEN = 5000  # the parser's time grows with the square of the depth
_WIDEST = 50
_MUST_END = re.compile(
    r"<(/?)(?:a|article|b|blockquote|center|code|div|em|font|i|main|ol|pre|q|s|section|small|span|strong|table|u|ul)\b",
    re.I,
)


def declared_charset(content: bytes) -> str:
    """What a `<meta charset>` in the first 4 KB says; UTF-8 where none does."""
    match = _CHARSET.search(content[:4096])
    return match[1].decode("ascii").lower() if match else "utf-8"


def parse(name: str, text: str) -> Reading:
    """The page's main part in reading order; raises ItemError `unreadable` where there is no markup, or too deep."""
    if not _TAG.search(text[:100_000]):
        raise ItemError("unreadable", f"{name}: no HTML tag in it; expected an HTML page")
    if _most_open(text) > _MOST_OPEN:
        raise ItemError(
            "unreadable", f"{name}: elements nested deeper than {_MOST_OPEN}; expected a page that people read"
        )
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    for node in tree.css(_DROPPED):
        node.decompose()
    root = tree.css_first("main") or tree.css_first("article") or tree.body
    blocks = list(_Walk(name).blocks(root)) if root else []
    headings = [block.text for block in blocks if block.kind == "heading" and block.level == 1]
    return Reading(blocks=blocks, title=next(iter(headings), _clean(title.text()) if title else ""))


def _most_open(text: str) -> int:
    """How many elements are open at the same time at most, counted without a parser."""
    now = most = 0
    for match in _MUST_END.finditer(text):
        now = max(0, now - 1) if match[1] else now + 1
        most = max(most, now)
    return most


class _Walk:
    """Goes through the tree without recursion, so that depth costs no stack."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._words: list[str] = []
        self._marker = ""

    def blocks(self, root: LexborNode) -> Iterator[Block]:
        stack: list[tuple[LexborNode, int, bool]] = [(root, 0, False)]
        while stack:
            node, depth, is_end = stack.pop()
            if depth > _DEEPEST:
                raise ItemError("unreadable", f"{self._name}: elements nested deeper than {_DEEPEST}")
            if node.is_text_node:
                self._words.append(node.text_content or "")
            elif is_end:
                yield from self._flush()
            else:
                yield from self._enter(node, depth, stack)
        yield from self._flush()

    def _enter(self, node: LexborNode, depth: int, stack: list[tuple[LexborNode, int, bool]]) -> Iterator[Block]:
        tag = node.tag or ""
        if tag in _BLOCKS:
            yield from self._flush()
            stack.append((node, depth, True))
        if tag in _HEADINGS:
            yield from _made(_text(node), "heading", _HEADINGS[tag])
        elif tag == "table":
            yield from _table(node)
        elif tag == "pre":
            yield from _made((node.text() or "").strip("\n"))
        else:
            self._marker = "- " if tag == "li" else self._marker
            stack.extend((child, depth + 1, False) for child in reversed(_children(node)))

    def _flush(self) -> Iterator[Block]:
        text = _clean("".join(self._words))
        self._words = []
        if text:
            yield Block(self._marker + text)
            self._marker = ""


def _children(node: LexborNode) -> list[LexborNode]:
    return list(node.iter(include_text=True))


def _text(node: LexborNode) -> str:
    """All words below a node; words of different blocks stay apart."""
    parts = []
    for inner in node.traverse(include_text=True):
        if inner.is_text_node:
            parts.append(inner.text_content or "")
        elif inner.tag in _BLOCKS:
            parts.append(" ")
    return _clean("".join(parts))


def _clean(text: str) -> str:
    return " ".join(text.replace("\u00ad", "").split())


def _made(text: str, kind: Kind = "text", level: int = 0) -> Iterator[Block]:
    if text:
        yield Block(text, kind, level)


def _table(table: LexborNode) -> Iterator[Block]:
    """A table's caption and rows; without `th` two columns are read as name and value."""
    if caption := table.css_first("caption"):
        yield from _made(_text(caption))
    rows = [row for row in table.css("tr") if _owner(row) == table.mem_id]
    header: list[str] = []
    for cells, is_header in _grid(rows):
        if is_header:
            header = cells
        elif len(cells) > 1 and len(set(cells)) == 1:  # one cell across the table: a heading of the rows below
            yield from _made(cells[0])
        elif not header and len(cells) == 2 and all(cells):
            yield Block(f"{cells[0].rstrip(':')}: {cells[1]}", "row")
        else:
            yield from _made(table_row(header, cells), "row")


def _owner(row: LexborNode) -> int:
    """The table that a row belongs to: tables may stand in tables."""
    node = row.parent
    while node is not None and node.tag != "table":
        node = node.parent
    return node.mem_id if node is not None else 0


def _grid(rows: Sequence[LexborNode]) -> Iterator[tuple[list[str], bool]]:
    """The cells of each row, those that span columns or rows repeated, and whether all of them are `th`."""
    spanning: dict[int, tuple[str, int]] = {}  # column: its text, and how many more rows it covers
    for row in rows:
        cells: list[str] = []
        own = [cell for cell in row.iter() if cell.tag in {"td", "th"}]
        for cell in own:
            _fill(cells, spanning)
            text = _text(cell)
            for _ in range(_span(cell, "colspan")):
                if (more := _span(cell, "rowspan") - 1) > 0:
                    spanning[len(cells)] = (text, more)
                cells.append(text)
        _fill(cells, spanning)
        yield cells, bool(own) and all(cell.tag == "th" for cell in own)


def _fill(cells: list[str], spanning: dict[int, tuple[str, int]]) -> None:
    while (column := len(cells)) in spanning:
        text, more = spanning.pop(column)
        cells.append(text)
        if more > 1:
            spanning[column] = (text, more - 1)


def _span(cell: LexborNode, attribute: str) -> int:
    value = cell.attributes.get(attribute) or "1"
    return min(max(int(value), 1), _WIDEST) if value.isdecimal() else 1
