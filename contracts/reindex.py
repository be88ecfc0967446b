"""Filling search engines anew: what an operator asks of retrieve, and how far it is. JSON, by request and reply."""

from typing import Literal

from msgspec import Struct


class Engines(Struct, frozen=True):
    """Which engine serves vectors, and which serves words."""

    vectors: str  # edge or qdrant
    words: str  # edge, qdrant or opensearch


class Reindex(Struct, frozen=True, omit_defaults=True):
    """Fill these engines by replaying the log of documents, then serve with them: `reindex.<replica>`. Without `to` it
    asks how far the replica is; every replica answers that on `reindex.all`."""

    to: Engines | None = None
    v: int = 1


class Reindexing(Struct, frozen=True, omit_defaults=True):
    """How far a replica of retrieve is with filling engines anew."""

    replica: str
    serving: Engines  # what answers questions now
    state: Literal["idle", "filling", "catching up", "done", "failed"] = "idle"
    to: Engines | None = None
    documents: int = 0  # of the log that have been read
    of: int = 0  # in the log when it began
    passages: int = 0  # that were written
    seconds: float = 0.0
    reason: str = ""  # of a failure: one line
    v: int = 1
