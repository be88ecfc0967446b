"""Reads the items of a large job from the object store, line by line, without holding the object."""

from collections import deque
from dataclasses import dataclass

from nats.js.api import ObjectInfo
from nats.js.errors import NotFoundError

from contracts.subjects import CLAIMS
from shared.errors import Poison
from shared.uploads import Uploads


@dataclass(frozen=True)
class Place:
    """Where a line begins: the sequence of its chunk in the store's stream (0: the first), and the bytes into it and
    before it."""

    sequence: int = 0
    offset: int = 0
    passed: int = 0


class Lines:
    """The non-empty lines of an object from a place on."""

    def __init__(self, uploads: Uploads, info: ObjectInfo, place: Place) -> None:
        self._claim = info.name or ""
        self.size = info.size or 0
        self._uploads = uploads
        self._info = info
        self._next = place.sequence
        self._skip = place.offset
        self._buffer = b""
        self._at = 0
        self._read = place.passed  # bytes of the object up to the end of the buffer
        self._chunks: deque[tuple[int, int]] = deque()  # sequence, and where in the object each begins

    @classmethod
    async def open(cls, uploads: Uploads, claim: str, place: Place | None = None) -> "Lines":
        """Raises Poison where there is no such object (any more)."""
        try:
            info = await uploads.info(claim)
        except NotFoundError:
            raise Poison(_gone(claim)) from None
        return cls(uploads, info, place or Place())

    @property
    def place(self) -> Place:
        """Where the next line begins."""
        at = self._read - len(self._buffer) + self._at
        while len(self._chunks) > 1 and self._chunks[1][1] <= at:
            self._chunks.popleft()
        if not self._chunks:
            return Place(self._next, self._skip, self._read)
        sequence, began = self._chunks[0]
        return Place(sequence, at - began, began)

    async def take(self, count: int) -> list[bytes]:
        """The next lines, fewer at the end. Raises Poison where a part of the object is gone."""
        found: list[bytes] = []
        while len(found) < count:
            end = self._buffer.find(b"\n", self._at)
            if end < 0:
                if await self._more():
                    continue
                end = len(self._buffer)
                if self._at >= end:
                    break
            line = self._buffer[self._at : end]
            self._at = min(end + 1, len(self._buffer))
            if line.strip():
                found.append(line)
        return found

    async def count(self) -> int:
        """How many lines are left; reads to the end."""
        found = 0
        while some := await self.take(4096):
            found += len(some)
        return found

    async def _more(self) -> bool:
        """Read the next chunk. False: there is none."""
        if self._read >= self.size:
            return False
        try:
            sequence, data = await self._uploads.chunk(self._info, self._next)
        except NotFoundError:
            raise Poison(_gone(self._claim)) from None
        self._chunks.append((sequence, self._read))
        self._next = sequence + 1
        self._buffer = self._buffer[self._at :] + data
        self._at = self._skip  # only before the first chunk, when the buffer was empty
        self._skip = 0
        self._read += len(data)
        return True


def _gone(name: str) -> str:
    return f"items_claim: claim {name}: no such object in the store {CLAIMS.name!r}; it may have expired"
