"""Terms: the stemmed words of a text, each as a 32-bit number, which sparse vectors and arrays can hold."""

import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import Stemmer
from numpy.typing import NDArray

TermIds = NDArray[np.uint32]
Counts = NDArray[np.uint16]

MOST = np.iinfo(np.uint16).max

_WORD = re.compile(r"\w+")
_STEMMER = Stemmer.Stemmer("english")
_STEMMING = threading.Lock()  # PyStemmer's stemmers are not safe to share between threads
# Lucene's list for English: words so common that they only add noise to short passages.
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with"
    )
)


@dataclass(frozen=True)
class TermCounts:
    """The distinct terms of a text in ascending order, how often each occurs, and the number of all occurrences."""

    ids: TermIds
    counts: Counts
    length: int


def terms(text: str) -> list[int]:
    """The terms of a text in their order; a repeated word comes again."""
    return [_term(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


def count(text: str) -> TermCounts:
    """The terms of a text, counted."""
    return from_counter(Counter(terms(text)))


def add(parts: Iterable[TermCounts]) -> TermCounts:
    """The terms of several texts taken together."""
    total: Counter[int] = Counter()
    for part in parts:
        for term, times in zip(part.ids.tolist(), part.counts.tolist(), strict=True):
            total[term] += times
    return from_counter(total)


def from_counter(counter: Counter[int]) -> TermCounts:
    """Arrays of a counter; counts above 65,535 stay there."""
    ids = sorted(counter)
    counts = np.array([min(counter[i], MOST) for i in ids], dtype=np.uint16)
    return TermCounts(np.array(ids, dtype=np.uint32), counts, counter.total())


@lru_cache(maxsize=1 << 16)
def _term(word: str) -> int:
    with _STEMMING:
        stem: str = _STEMMER.stemWord(word)
    return zlib.crc32(stem.encode())
