"""Markdown (CommonMark with tables), through markdown-it-py."""

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.ingest.domain.blocks import Block, Kind, Reading, table_row

_FRONT_MATTER = re.compile(r"\A---\n(.*?\n)(?:---|\.\.\.)\n", re.S)
_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.M)
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^>]*>", re.S)


def parse(text: str) -> Reading:
    """Headings by their level, list items and paragraphs, table rows with their column names; markup is left out."""
    front = _FRONT_MATTER.match(text)
    title = _TITLE.search(front[1]) if front else None
    body = text[front.end() :] if front else text
    blocks = list(_blocks(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)))
    headings = [block.text for block in blocks if block.kind == "heading" and block.level == 1]
    return Reading(blocks=blocks, title=title[1] if title else next(iter(headings), ""))


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    table = _Table()
    markers: list[str] = []  # of the list items that are open; only an item's first paragraph bears its marker
    level = 0
    for token in tokens:
        table.see(token)
        if token.type == "tr_close" and not table.in_head:
            yield from _made(table_row(table.header, table.cells), "row")
        elif token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "list_item_open":
            markers.append(f"{token.info}{token.markup} " if token.info else "- ")
        elif token.type == "list_item_close":
            markers.pop()
        elif token.type == "inline" and level:
            yield from _made(_plain(token), "heading", level)
            level = 0
        elif token.type == "inline" and not table.in_cell:
            yield from _made((markers[-1] if markers else "") + _plain(token))
            markers[-1:] = [""] if markers else []
        elif token.type in {"fence", "code_block"}:
            yield from _made(token.content.strip())
        elif token.type == "html_block":
            yield from _made(" ".join(_TAG.sub(" ", token.content).split()))


class _Table:
    """The row that is being read, and the column names of its table."""

    def __init__(self) -> None:
        self.in_head = self.in_cell = False
        self.header: list[str] = []
        self.cells: list[str] = []

    def see(self, token: Token) -> None:
        if token.type in {"thead_open", "thead_close"}:
            self.in_head = token.type == "thead_open"
            self.header = self.cells if token.type == "thead_close" else []
        elif token.type == "tr_open":
            self.cells = []
        elif token.type in {"th_open", "td_open", "th_close", "td_close"}:
            self.in_cell = token.type.endswith("open")
        elif token.type == "inline" and self.in_cell:
            self.cells.append(_plain(token))


def _plain(token: Token) -> str:
    """The words of a paragraph without their markup."""
    parts = []
    for child in token.children or []:
        if child.type in {"softbreak", "hardbreak"}:
            parts.append(" " if child.type == "softbreak" else "\n")
        elif child.type != "html_inline":
            parts.append(child.content)
    return "".join(parts).replace("\u00ad", "").strip()


def _made(text: str, kind: Kind = "text", level: int = 0) -> Iterator[Block]:
    if text.strip():
        yield Block(text.strip(), kind, level)
