"""What retrieve remembers in its process: vectors of questions, and the passages that were found for them.

Both belong to one tenant each, are bounded in bytes, and forget what was used longest ago. Passages belong to a version
of the tenant's library too: once a document has changed they are not found any more, and are dropped; without a change,
after `cache_ttl_s`.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

import msgspec
from cachetools import TTLCache

from contracts.item import Passage
from services.retrieve.adapters.find import Finder
from services.retrieve.domain.ports import Note, unnoted
from shared.encoder import Encoder, QueryVectors

VECTORS_BYTES = 16 << 20
PASSAGES_BYTES = 32 << 20
_OF_PASSAGE = 1000  # bytes that a passage takes besides its text, about

V = TypeVar("V")
Filters = Mapping[str, str | list[str]]


class Recent(Generic[V]):
    """Values by tenant and key, of so many bytes in all; the one that was used longest ago goes first, and each after
    `ttl_s`. Safe to use from several threads."""

    def __init__(
        self,
        most_bytes: int,
        size: Callable[[V], int],
        ttl_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._values: TTLCache[tuple[str, bytes], V] = TTLCache(most_bytes, ttl_s, clock, size)
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> float:
        return self._values.currsize

    def get(self, tenant: str, key: bytes) -> V | None:
        with self._lock:
            return self._values.get((tenant, key))

    def put(self, tenant: str, key: bytes, value: V) -> None:
        with self._lock:
            if self._size(value) <= self._values.maxsize:
                self._values[tenant, key] = value

    def forget(self, tenant: str) -> None:
        """Drop all that belongs to a tenant."""
        with self._lock:
            for place in [place for place in self._values if place[0] == tenant]:
                del self._values[place]


class QuestionVectors:
    """Encodes questions, those of late only once. May be called from several threads."""

    def __init__(self, encoder: Encoder, note: Note = unnoted, most_bytes: int = VECTORS_BYTES) -> None:
        self._encoder = encoder
        self._note = note
        self._recent: Recent[QueryVectors] = Recent(most_bytes, lambda v: v.vector.nbytes + v.tokens.nbytes)

    def encode(self, tenant: str, question: str) -> QueryVectors:
        key = _hash(question)
        found = self._recent.get(tenant, key)
        self._note("embedding", "miss" if found is None else "hit")
        if found is None:
            found = self._encoder.encode_query(question)
            self._recent.put(tenant, key, found)
        return found

    def forget(self, tenant: str) -> None:
        """Drop what a tenant has asked."""
        self._recent.forget(tenant)


class Versions(Protocol):
    """Says which version of its library a tenant has."""

    def known_version(self, tenant: str) -> str | None:
        """At once, where nothing has changed since it was last asked for."""

    def version(self, tenant: str) -> str: ...


class RememberingFinder:
    """Finds passages; for a question of late, those that were found then, as long as the library is the same."""

    def __init__(
        self,
        finder: Finder,
        library: Versions,
        note: Note = unnoted,
        ttl_s: float = math.inf,
        most_bytes: int = PASSAGES_BYTES,
    ) -> None:
        self._finder = finder
        self._library = library
        self._note = note
        self._versions: dict[str, str] = {}
        self._recent: Recent[list[Passage]] = Recent(
            most_bytes, lambda found: sum(_OF_PASSAGE + len(passage.text) for passage in found), ttl_s
        )

    async def version(self, tenant: str) -> str:
        """Of what the tenant has now."""
        version = self._library.known_version(tenant)
        if version is None:
            version = await asyncio.to_thread(self._library.version, tenant)
        if self._versions.get(tenant) != version:
            self._versions[tenant] = version
            self._recent.forget(tenant)
        return version

    async def find(self, tenant: str, question: str, filters: Filters, top: int) -> list[Passage]:
        version = await self.version(tenant)
        key = _hash(msgspec.json.encode([version, question, sorted(filters.items()), top]).decode())
        found = self._recent.get(tenant, key)
        self._note("retrieval", "miss" if found is None else "hit")
        if found is None:
            found = await self._finder.find(tenant, question, filters, top)
            if found and await self.version(tenant) == version:
                self._recent.put(tenant, key, found)
        return found

    def forget(self, tenant: str) -> None:
        """Drop what was found for a tenant."""
        self._versions.pop(tenant, None)
        self._recent.forget(tenant)


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
