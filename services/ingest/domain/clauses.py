"""Numbers at the start of a paragraph: "4.2 Physiotherapy", "Section 4.2", "§ 4.2", "Article IV", "Appendix B"."""

import re

from msgspec import Struct

_NUMBER = r"\d{1,3}(?:\.\d{1,3}){0,4}"
_SUB = r"(?:\([a-z]{1,3}\)|\(\d{1,2}\))"
_NEXT = r"(?=[\"'“‘«(\[]*[A-ZÀ-ÖØ-Þ]|$)"  # what follows a clause's number begins like a sentence or a title
_ROMAN_OR_NUMBER = r"(?:[IVXLC]{1,7}|\d{1,3})"

_DECIMAL = re.compile(rf"^({_NUMBER})({_SUB}?)([.)]?)(?:\s+[–—-])?\s+{_NEXT}")
_NAMED = re.compile(rf"^(?i:section|sec\.|§§?|clause|paragraph)\s*({_NUMBER})({_SUB}?)[.:)]?\s*[–—:-]?\s*{_NEXT}")
_ARTICLE = re.compile(rf"^((?i:article))\s+({_ROMAN_OR_NUMBER})\b[.:)]?\s*[–—:-]?\s*{_NEXT}")
_PART = re.compile(
    rf"^((?i:part|chapter|appendix|annex|exhibit|schedule|attachment|addendum))\s+"
    rf"([A-Z]{{1,2}}(?:-\d+)?|{_NUMBER}|{_ROMAN_OR_NUMBER})\b[.:)]?\s*[–—:-]?\s*{_NEXT}"
)
_ITEM = re.compile(r"^(?:\(([a-zA-Z]{1,3})\)|([a-zA-Z])[.)])\s+\S")
_RUN_IN = re.compile(r"^([^.:;–—]{2,80}?)\s?[.:–—](?:\s+[\"'“‘(\[]*[A-ZÀ-ÖØ-Þ]|$)")
_SMALL_WORDS = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "into", "of", "on", "or", "the", "to", "with"}
)

PART_DEPTH = -1
ARTICLE_DEPTH = 0
TITLE_WORDS = 12


class Mark(Struct, frozen=True):
    """A clause's number.

    `clause` is how it is cited; `depth` is −1 for a part or an appendix, 0 for an article, 1 for "4", 2 for "4.2".
    """

    clause: str
    depth: int
    rest: str  # the paragraph without the number
    number: tuple[int, ...] = ()  # (4, 2); empty for articles and parts
    named: bool = False  # "Section 4", "Article IV": the word says that it is a clause


def find_mark(text: str) -> Mark | None:
    """The number that a paragraph or a heading begins with, if it has one."""
    if match := _NAMED.match(text):
        return _decimal(match, text, named=True)
    if match := _ARTICLE.match(text):
        return Mark(f"Article {match[2].upper()}", ARTICLE_DEPTH, text[match.end() :], named=True)
    if (match := _PART.match(text)) and is_title(text):
        return Mark(f"{match[1].title()} {match[2].upper()}", PART_DEPTH, text[match.end() :], named=True)
    if match := _DECIMAL.match(text):
        return _decimal(match, text, named=False)
    return None


def _decimal(match: re.Match[str], text: str, named: bool) -> Mark:
    number = tuple(int(part) for part in match[1].split("."))
    return Mark(match[1] + match[2], len(number) + bool(match[2]), text[match.end() :], number, named)


def has_stop(text: str) -> bool:
    """Whether a whole number at the start is written as a number of a clause is: "4." or "4)", not "4 apples"."""
    match = _DECIMAL.match(text)
    return bool(match and match[3])


def is_title(text: str) -> bool:
    """Whether a paragraph is so short, and ends so, that it can be a heading."""
    words = text.split()
    return 0 < len(words) <= TITLE_WORDS and not text.rstrip().endswith((".", ";", ",", ":", "?", "!"))


def run_in_title(rest: str) -> str:
    """The title that some clauses begin with: "Term. This Agreement …" gives "Term"; empty where there is none."""
    match = _RUN_IN.match(rest)
    if not match:
        return ""
    words = [word for word in match[1].split() if word.lower() not in _SMALL_WORDS]
    is_titled = all(not word[0].islower() for word in words)
    return match[1] if words and len(words) <= TITLE_WORDS and is_titled and match[1][0] not in "\"“'" else ""


def item_letter(text: str) -> str:
    """ "a" of a paragraph that begins with "(a)", "a." or "A."; empty for all others."""
    match = _ITEM.match(text)
    return match[1] or match[2] if match else ""


def follows(letter: str, last: str) -> bool:
    """Whether "(letter)" comes after "(last)" on the same level: tells "(i)" after "(h)" from a roman one."""
    if not last:
        return letter in {"a", "A"}
    return len(letter) == 1 and len(last) == 1 and ord(letter) == ord(last) + 1
