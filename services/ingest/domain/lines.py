"""Mends what a page's layout did to running text: broken lines, hyphens, repeated headers and footers."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

HYPHEN = "\u00ad"
"""Stands at the end of a line whose last word is hyphenated."""

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HYPHENATED_END = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")
_NUMBERS = re.compile(r"\d+|\b[ivxl]+\b", re.I)
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
    text = ""
    for line in (" ".join(line.split(" ")).strip() for line in lines):
        text = _append(text, line, words) if text else line
    return " ".join(text.replace(HYPHEN, "-" if text.endswith(HYPHEN) else "").split())


def _append(text: str, line: str, words: Counter[str]) -> str:
    match = _HYPHENATED_END.search(text)
    following = _WORD.match(line)
    if not match or not following or not following[0][0].islower():
        return f"{text.rstrip(HYPHEN)}{'-' if text.endswith(HYPHEN) else ''}{'' if match else ' '}{line}"
    first, second = match[1].lower(), following[0].lower()
    is_compound = words[f"{first}-{second}"] > words[first + second] or (
        not words[first + second] and bool(words[first]) and bool(words[second])
    )
    return f"{text[:-1]}{'-' if is_compound else ''}{line}"


def goes_on(text: str, following: str) -> bool:
    """Whether a paragraph that a page break cut goes on with the next one."""
    if text.endswith(("-", HYPHEN)):
        return following[:1].islower()
    return not text.endswith(_STOPS) and (following[:1].islower() or len(text) > 120)


def is_page_number(text: str) -> bool:
    return bool(_PAGE_NUMBER.match(text.strip()))


def shape(text: str) -> str:
    """A line with its numbers made alike: running headers that differ by the page number have one shape."""
    return _NUMBERS.sub("#", " ".join(text.lower().split()))
