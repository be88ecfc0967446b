"""How hard a text is to read."""

import re

from shared.text import sentences

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_VOWELS = re.compile(r"[aeiouy]+")
_LINK = re.compile(r"\b(?:https?://|www\.)\S+|\{\w+\}")


def grade(text: str) -> float:
    """The Flesch-Kincaid grade level: US school years needed; links and {placeholders} do not count.

    0.39 words/sentence + 11.8 syllables/word - 15.59 (Kincaid, Fishburne, Rogers and Chissom, 1975, "Derivation of new
    readability formulas for Navy enlisted personnel", Research Branch Report 8-75). Never below 0.
    """
    plain = _LINK.sub("", text)
    words = _WORD.findall(plain)
    if not words:
        return 0.0
    lines = [sentence for sentence in sentences(plain) if _WORD.search(sentence)]
    syllables = sum(_syllables(word) for word in words)
    return max(0.0, 0.39 * len(words) / len(lines) + 11.8 * syllables / len(words) - 15.59)


def _syllables(word: str) -> int:
    """Groups of vowels; a silent e at the end is none."""
    lower = word.lower()
    count = len(_VOWELS.findall(lower))
    silent = lower.endswith("e") and not lower.endswith(("le", "ee")) and count > 1
    return max(1, count - silent)
