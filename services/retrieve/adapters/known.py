"""What was read of documents lately: the facts of a document never change under its number."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from shared.encoder import DIMENSIONS, Floats

ROOM_BYTES = 64 << 20
"""About 3,500 documents of 50 passages: those that questions over 100,000 passages come back to."""


@dataclass(frozen=True)
class Known:
    """A document of more than one passage: its terms, ascending, and for each how often it occurs, and in how many
    passages, as they are stored; its centroid (384,)."""

    terms: bytes
    counts: bytes
    spread: bytes
    centroid: Floats

    @property
    def size_bytes(self) -> int:
        return len(self.terms) + len(self.counts) + len(self.spread) + self.centroid.nbytes


Read = Callable[[Sequence[int]], Mapping[int, Known]]


class KnownDocuments:
    """By number, the least recently used go first. Safe to use from several threads."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._found: LRUCache[int, Known] = LRUCache(room_bytes, getsizeof=lambda known: known.size_bytes)
        self._lock = threading.Lock()

    def get(self, numbers: Sequence[int], read: Read) -> list[Known]:
        """The facts of these documents; `read` gets those that are not known here."""
        with self._lock:
            there = {number: known for number in numbers if (known := self._found.get(number)) is not None}
        if missing := [number for number in numbers if number not in there]:
            fresh = read(missing)
            with self._lock:
                for number, known in fresh.items():
                    if known.size_bytes <= self._found.maxsize:
                        self._found[number] = known
            there |= fresh
        return [there[number] for number in numbers]

    def clear(self) -> None:
        """Forget all of them; they are read again as questions come."""
        with self._lock:
            self._found.clear()


NOTHING = Known(b"", b"", b"", np.zeros(DIMENSIONS, np.float32))
"""Of a document of one passage nothing is stored: its facts are the passage's."""
