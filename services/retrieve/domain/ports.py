"""What retrieve needs from its engines. Each method takes the tenant first and keeps to it: there is no method that
sees several tenants, and the engines build the tenant's filter themselves."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from contracts.documents import Document
from contracts.item import Item
from services.retrieve.domain.terms import TermIds
from shared.answers import Kept
from shared.encoder import Floats


class Level(StrEnum):
    """What a point of an index stands for."""

    PASSAGE = "passage"
    DOCUMENT = "document"


@dataclass(frozen=True)
class Scope:
    """What a search may find within the tenant: documents by id (empty: all), and for each group of facets one of its
    values (see `facet`)."""

    documents: tuple[str, ...] = ()
    facets: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Point:
    """A passage, or a whole document, as engines index it. The id is unique among all tenants, and stays the same
    when the same place of the same document is indexed again."""

    id: int  # 63 bits
    level: Level
    text: str
    terms: TermIds  # distinct, ascending
    weights: Floats  # of each term: its BM25 saturation, without the inverse frequency
    vector: Floats  # (384,)


@dataclass(frozen=True)
class Entry:
    """A document with all that engines index of it."""

    document: str
    facets: tuple[str, ...]
    points: Sequence[Point]


@dataclass(frozen=True)
class WeightedQuery:
    """A query by words: its text, and its distinct terms with their weights (inverse frequency × occurrences)."""

    text: str
    terms: TermIds
    weights: Floats = field(repr=False)


class Store(Protocol):
    """An engine that holds points."""

    async def open(self) -> bool:
        """Make ready; returns whether it was created just now, empty."""

    async def replace(self, tenant: str, *entries: Entry) -> None:
        """Index documents, each once; what was indexed of them before is gone. Durable and findable when it returns.

        Raises Poison that names a document which the engine does not take; the others may be indexed or not.
        """

    async def remove(self, tenant: str, document: str) -> None:
        """Forget a document; one that is not there is no fault."""

    async def close(self) -> None: ...


class Successor(Store, Protocol):
    """An engine that can be filled on a new place, while another one serves, and then take its name.

    `begin` comes in the place of `open`. Filled and served by one process at a time.
    """

    async def begin(self) -> None:
        """Make a new place, empty; what an earlier attempt left is deleted."""

    async def fill(self, tenant: str, entries: Sequence[Entry]) -> None:
        """Index documents that are not there yet, several at once; findable at the latest when it serves.

        Raises Poison that names the document which the engine does not take.
        """

    async def serve(self) -> None:
        """Take the name: whoever opens the engine from now on finds what was filled; what was there before is gone."""

    async def discard(self) -> None:
        """Delete what this engine works on, for good."""


class Vectors(Store, Protocol):
    """Search by likeness of vectors."""

    async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
        """Ids of the points with the highest cosine, best first."""


class Words(Store, Protocol):
    """Search by words."""

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        """Ids of the points with the highest BM25, best first; only those that have a word of the query."""


class VectorEngine(Vectors, Successor, Protocol):
    """An engine as settings choose it: it searches by vectors, and can be filled anew."""


class WordEngine(Words, Successor, Protocol):
    """The same for words."""


@dataclass(frozen=True)
class Entered:
    """An entry of the log; `document` is None where it cannot be read any more, `fault` says why."""

    sequence: int
    tenant: str
    id: str
    document: Document | None
    fault: str = ""


@dataclass(frozen=True)
class Head:
    """Which log it is, and the sequence of its newest entry (0: none). A log that was made anew has another name."""

    log: str
    sequence: int


@dataclass(frozen=True)
class Look:
    """An item after the look at what was kept: answered, or to be worked on, perhaps with an answer to check."""

    item: Item
    old: Kept | None = None


class Note(Protocol):
    """Counts what a cache was asked for: which cache, what came of it, how many times."""

    def __call__(self, cache: str, result: str, times: int = 1, /) -> None: ...


def unnoted(cache: str, result: str, times: int = 1, /) -> None:
    """Where nobody counts."""


class Library(Protocol):
    """The documents as ingest logged them."""

    async def get(self, tenant: str, document: str) -> Document | None:
        """The last revision; None where there is no such document."""


class Log(Library, Protocol):
    """The log of documents in its order."""

    async def head(self) -> Head:
        """Where the log ends."""

    def since(self, sequence: int) -> AsyncIterator[Entered]:
        """Entries after a sequence up to the newest."""


def facet(key: str, value: str) -> str:
    """A metadata key and its value as one string to match exactly; the key cannot reach any other field."""
    return f"{key}\x1f{value}"
