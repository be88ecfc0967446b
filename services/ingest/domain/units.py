"""Text in units that are never cut: sentences, table rows, heading lines."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from services.ingest.domain.blocks import Block
from shared.text import count_tokens, sentences

_LONGEST = 200
_BATCH = 512
_LONGEST_CHARS = 1000


class Unit(Struct, frozen=True):
    """A sentence, a table row or a heading line; `block` tells which units share a paragraph."""

    text: str
    tokens: int
    block: int
    page: int
    page_end: int
    is_row: bool = False
    is_lead: bool = False  # said again to lead in what follows: it does not count for the pages


def text_of(units: Sequence[Unit]) -> str:
    """Sentences of a paragraph follow each other, paragraphs and rows are parted by an empty line."""
    parts = [units[0].text]
    for before, unit in pairwise(units):
        parts.append((" " if unit.block == before.block else "\n\n") + unit.text)
    return "".join(parts)


def units_of(blocks: Sequence[Block]) -> list[Unit]:
    """Blocks as units of at most 200 tokens."""
    texts = [(text, i) for i, block in enumerate(blocks) for text in _sentences(block)]
    counts = _counts([text for text, _ in texts])
    units: list[Unit] = []
    for (text, i), tokens in zip(texts, counts, strict=True):
        block = blocks[i]
        for part, size in _halved(text, tokens):
            page_end = max(block.page, block.page_end)
            units.append(Unit(part, size, i, block.page, page_end, is_row=block.kind == "row"))
    return units


def _sentences(block: Block) -> Iterator[str]:
    """Sentences, none of more than 1,000 characters: a "word" of any length counts as one token."""
    for text in sentences(block.text) if block.kind == "text" else [" ".join(block.text.split())]:
        start = 0
        while len(text) - start > _LONGEST_CHARS:
            space = text.rfind(" ", start + 1, start + _LONGEST_CHARS)
            end = space if space > 0 else start + _LONGEST_CHARS
            yield text[start:end].strip()
            start = end
        yield text[start:].strip()


def _counts(texts: Sequence[str]) -> list[int]:
    """Token counts, some texts at a time: encodings are large."""
    return [count for start in range(0, len(texts), _BATCH) for count in count_tokens(texts[start : start + _BATCH])]


def _halved(text: str, tokens: int) -> Iterator[tuple[str, int]]:
    """A sentence beyond 200 tokens is halved at a space, or anywhere where it has none, until it fits."""
    if tokens <= _LONGEST:
        yield text, tokens
        return
    middle = text.find(" ", len(text) // 2)
    middle = middle if middle > 0 else text.rfind(" ", 0, len(text) // 2)
    middle = middle if middle > 0 else len(text) // 2
    halves = [text[:middle].strip(), text[middle:].strip()]
    for half, size in zip(halves, count_tokens(halves), strict=True):
        yield from _halved(half, size)
