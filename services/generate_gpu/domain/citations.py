"""Quotes of a generated answer: which sentence of which passage a citation stands on."""

import re
from collections.abc import Iterator, Sequence

from contracts.item import Passage, Quote
from shared.text import sentences

_CITED = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_QUOTED = re.compile(r"[\"“]([^\"”]{8,600})[\"”]")


def quotes(text: str, passages: Sequence[Passage]) -> list[Quote]:
    """A quote for each citation [n], in the order of the text.

    The words in quotation marks where passage n really has them, else the sentence of passage n that shares the most
    words with the statement. A number without a passage gives nothing.
    """
    if not passages:
        return []
    found: dict[tuple[str, str], Quote] = {}
    for statement, numbers in _statements(text):
        for number in numbers:
            if not 1 <= number <= len(passages):
                continue
            passage = passages[number - 1]
            for words in _quoted(statement, passage) or _closest(statement, passage):
                found.setdefault((passage.chunk, words), passage.quote(words))
    return list(found.values())


def _statements(text: str) -> Iterator[tuple[str, list[int]]]:
    """The text before each citation, back to the one before it, and the numbers cited."""
    start = 0
    for match in _CITED.finditer(text):
        statement = text[start : match.start()].strip()
        start = match.end()
        yield statement, [int(number) for number in re.findall(r"\d+", match.group(1))]


def _quoted(statement: str, passage: Passage) -> list[str]:
    whole = _plain(passage.text)
    return [words.strip() for words in _QUOTED.findall(statement) if _plain(words).rstrip(". ,;") in whole]


def _closest(statement: str, passage: Passage) -> list[str]:
    words = set(_plain(statement).split())
    best = max(sentences(passage.text), key=lambda sentence: len(words & set(_plain(sentence).split())), default="")
    return [best] if words & set(_plain(best).split()) else []


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())
