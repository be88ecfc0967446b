"""What every parser gives: a document as a flat list of headings, paragraphs and table rows in reading order."""

from typing import Literal

from msgspec import Struct

Kind = Literal["heading", "text", "row"]


class Block(Struct, frozen=True, omit_defaults=True):
    """A paragraph, a list item, a table row or a heading. Its text is never empty."""

    text: str
    kind: Kind = "text"
    level: int = 0  # of a heading, 1 is the outermost
    page: int = 0  # from 1; 0 where the format has no pages
    page_end: int = 0


class Reading(Struct, frozen=True, omit_defaults=True):
    """A document as it was read."""

    blocks: list[Block]
    title: str = ""  # as the document itself says
    pages: int = 0


GUESSED_LEVEL = 8
"""Level of a heading that is told from the text below it by its look alone (bold, or capitals)."""


def table_row(header: list[str], cells: list[str]) -> str:
    """A row that can be read alone: "Service: Physiotherapy; In network: $25 copay"."""
    names = header + [""] * (len(cells) - len(header))
    pairs = [
        f"{name}: {cell}" if name and name != cell else cell for name, cell in zip(names, cells, strict=False) if cell
    ]
    return "; ".join(pairs)
