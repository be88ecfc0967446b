"""Mends what a page's layout did to running text: broken lines, hyphens, repeated headers and footers."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

HYPHEN = "\u00ad"
"""Stands at the end of a line whose last word is hyphenated."""

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HYPHENATED_END = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")
_LONGEST_WORD = 60
_PAGE_NUMBER = re.compile(
    r"^(?:page|p\.|seite)?\s*[-–—]?\s*(?:\d{1,4}|[ivxl]{1,6})\s*[-–—]?(?:\s*(?:of|/)\s*\d{1,4})?$", re.I
)
_STOPS = (".", "!", "?", ":", ";", ".”", '."', ".)", "”", "…")


def vocabulary(lines: Iterable[str]) -> Counter[str]:
    """The words that a document writes unbroken, in lower case, with how often."""
    words: Counter[str] = Counter()
    is_cut = False  # whether the line before ended within a word
    for line in lines:
        found = _WORD.findall(line)
        is_cut_next = bool(_HYPHENATED_END.search(line))
        words.update(word.lower() for word in found[is_cut : len(found) - is_cut_next])
        is_cut = is_cut_next
    return words


def join(lines: Sequence[str], words: Counter[str]) -> str:
    """Lines of a paragraph as one; hyphenated words are mended, compounds keep theirs."""
    parts: list[str] = []
    for line in lines:
        if plain := " ".join(line.split()):
            if parts:
                parts[-1] = _ended(parts[-1], plain, words)
            parts.append(plain[:-1].replace(HYPHEN, "") + plain[-1])
    return "".join(parts).replace(HYPHEN, "-").strip()


def _ended(line: str, following: str, words: Counter[str]) -> str:
    """A line with what parts it from the next: a space, a hyphen or nothing."""
    match = _HYPHENATED_END.search(line[-_LONGEST_WORD:])
    if not match:
        return f"{line} "
    rest = _WORD.match(following)
    if not rest or not rest[0][0].islower():
        return f"{line[:-1]}-"
    first, second = match[1].lower(), rest[0].lower()
    whole, compound = words[first + second], words[f"{first}-{second}"]
    is_compound = compound > whole or (not whole and bool(words[first]) and bool(words[second]))
    return f"{line[:-1]}-" if is_compound else line[:-1]


def goes_on(text: str, following: str) -> bool:
    """Whether a paragraph that a page break cut goes on with the next one."""
    if text.endswith(("-", HYPHEN)):
        return following[:1].islower()
    return not text.endswith(_STOPS) and (following[:1].islower() or len(text) > 120)


def is_page_number(text: str) -> bool:
    return bool(_PAGE_NUMBER.match(text.strip()))
