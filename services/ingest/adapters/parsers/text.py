"""Plain text: paragraphs parted by empty lines; page headers that repeat are left out."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from services.ingest.domain.blocks import GUESSED_LEVEL, Block, Reading
from services.ingest.domain.clauses import find_mark, item_letter
from services.ingest.domain.lines import goes_on, is_page_number, join, vocabulary

_BREAK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+|\f")
_BULLET = re.compile(r"^\s*(?:[-*•–—▪◦·]|\(?[a-z0-9]{1,3}\))\s")
_CONTENTS = re.compile(r"^(?:table of )?contents\b.{0,12}$", re.I)
_ENTRIES = re.compile(  # "… Changes 17" before the next entry or at the end
    r"[A-Za-z)]\.?\s\d{1,3}(?=\s(?:(?i:section|article)\s|\d{1,2}\.(?:\d{1,2}\.?)?\s)|(?:\s[ivx]{1,4})?$)"
)
_SAME_WORDS = 4
_RULE = re.compile(r"^[\s\-=_*~#.]{3,}$", re.M)
_NO_TITLE = re.compile(r"^(?:execution|exhibits?|source|confidential|draft|by|page|\*)\b", re.I)
_LEADER = re.compile(r"(?:\.\s?){4,}\s*\w{1,5}$")
_REPEATS = 4  # a short paragraph that stands this often in a document belongs to its pages
_RUNNING_CHARS = 100
_TITLE_CHARS = 150
_CAPITALS_WORDS = 12


def parse(text: str) -> Reading:
    """Text as paragraphs. Lines in capitals are headings; clause numbers are found later."""
    paragraphs = _without_running(_BREAK.split(_RULE.sub("", text)))
    words = vocabulary(line for paragraph in paragraphs for line in paragraph.split("\n"))
    pieces = [join(lines, words) for paragraph in paragraphs for lines in _groups(paragraph.split("\n"))]
    blocks = [_block(piece) for piece in _mended(_without_contents([piece for piece in pieces if piece]))]
    return Reading(blocks=blocks, title=next((block.text for block in blocks[:3] if _can_be_title(block.text)), ""))


def _can_be_title(text: str) -> bool:
    has_stop = text.endswith((".", ":", ";", ","))
    return len(text) <= _TITLE_CHARS and not has_stop and not _NO_TITLE.match(text)


def _without_contents(pieces: Sequence[str]) -> list[str]:
    """Without the table of contents: entries that end in a page number, and titles that stand there again later."""
    kept: list[str] = []
    inside = False
    for i, piece in enumerate(pieces):
        entries = len(_ENTRIES.findall(piece))
        if _CONTENTS.match(piece):
            inside = True
        elif entries >= 2 or (inside and entries) or _LEADER.search(piece):
            continue
        elif not inside or not _comes_again(piece, pieces[i + 1 :]):
            kept.append(piece)
            inside = False
    return kept


def _comes_again(piece: str, later: Sequence[str]) -> bool:
    start = " ".join(piece.split()[:_SAME_WORDS]).casefold()
    return len(piece) <= _TITLE_CHARS and any(" ".join(other.split()).casefold().startswith(start) for other in later)


def _without_running(paragraphs: Sequence[str]) -> list[str]:
    """Without page numbers and short paragraphs that repeat through the whole text."""
    counts = Counter(" ".join(paragraph.split()) for paragraph in paragraphs)
    kept = []
    for paragraph in paragraphs:
        plain = " ".join(paragraph.split())
        is_running = counts[plain] >= _REPEATS and len(plain) <= _RUNNING_CHARS and not find_mark(plain)
        if plain and not is_running and not is_page_number(plain):
            kept.append(paragraph)
    return kept


def _groups(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that belong together: a list item, a clause or a heading begins a new group."""
    group: list[str] = []
    for line in lines:
        if group and _begins(line, group[-1]):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _begins(line: str, before: str) -> bool:
    plain = line.strip()
    if _BULLET.match(line) or _is_capitals(plain) or _is_capitals(before.strip()):
        return True
    mark = find_mark(plain)
    return mark is not None and (mark.named or len(mark.number) > 1 or before.rstrip().endswith((".", ":", ";")))


def _is_capitals(line: str) -> bool:
    is_short = len(line) <= _TITLE_CHARS and len(line.split()) <= _CAPITALS_WORDS
    return is_short and line.isupper() and sum(char.isalpha() for char in line) >= 4


def _mended(pieces: Sequence[str]) -> list[str]:
    """Paragraphs that a page break cut in two are made whole."""
    whole: list[str] = []
    for piece in pieces:
        is_new = item_letter(piece) or find_mark(piece) or _BULLET.match(piece) or not piece[0].islower()
        if whole and not is_new and not _is_capitals(whole[-1]) and goes_on(whole[-1], piece):
            whole[-1] = f"{whole[-1]} {piece}"
        else:
            whole.append(piece)
    return whole


def _block(piece: str) -> Block:
    return Block(piece, "heading", GUESSED_LEVEL) if _is_capitals(piece) else Block(piece)
