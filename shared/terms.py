"""Words as evidence: which ones of a text carry its meaning, in stemmed form, and how rare each is in English."""

import math
import re
from functools import cache, lru_cache

import Stemmer

from shared.text import vocabulary

WORD = re.compile(r"[a-z0-9à-öø-ÿ]+(?:['’](?!s\b)[a-z]+)?")

STOP_WORDS = frozenset(
    """a about also am an and any are as at be been being but by can could did do does doing done each else even ever
    for from get gets got had has have having he her here hers him his how i if in into is isn it its itself
    just let many may me might more most much must my name named no nor not now of off on once one only onto or
    other our ours out over own per please s same shall she should so some such t tell than that the their
    theirs them then there these they this those though through to too under up upon us very was we were what
    when where whether which while who whom whose why will with within without would yes you your yours""".split()  # noqa: SIM905  a hundred quoted words would fill the page
)
_FIRST_WORD = 1996  # the vocabulary's first whole word, "the"; from here on it is ordered by frequency
_COMMONEST = 24000  # whole words in the vocabulary, about


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


@lru_cache(50_000)
def stem(word: str) -> str:
    """The stem of a lower-case word (Snowball, English)."""
    return str(_stemmer().stemWord(word))


def words(text: str) -> list[str]:
    """Lower-case words and numbers in their order."""
    return WORD.findall(text.lower())


@lru_cache(50_000)
def rarity(word: str) -> float:
    """How much a lower-case word says, 0 (stop words) to 1 (rare words, numbers).

    The encoder's vocabulary is ordered by frequency in a large English corpus, so a word's place in it stands in for
    its inverse document frequency where there is no collection to count in: log(rank) / log(size).
    """
    if word in STOP_WORDS:
        return 0.0
    place = vocabulary().get(word)
    if place is None or word.isdigit():
        return 1.0
    return min(1.0, math.log(1 + max(0, place - _FIRST_WORD)) / math.log(_COMMONEST))


def terms(text: str) -> dict[str, float]:
    """The stems of a text's content words, each with its rarity."""
    weights: dict[str, float] = {}
    for word in words(text):
        weight = rarity(word)
        if weight > 0:
            weights[stem(word)] = max(weight, weights.get(stem(word), 0.0))
    return weights
