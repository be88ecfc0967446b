"""Search engines for tests: each is a way to get a store on the same data, again and again."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient
from servers import free_port

from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.qdrant import Qdrant
from services.retrieve.domain.ports import Entry, Level, Point, Scope, Vectors, WeightedQuery, Words
from services.retrieve.domain.terms import count
from shared.encoder import DIMENSIONS, Floats

Engine = Edge | Qdrant | OpenSearch


class Opens(Protocol):
    """Gives an engine on the same data, again and again; Edge has it in a folder for each place."""

    def __call__(self, place: str = "") -> Engine: ...


LAB = Path(__file__).resolve().parents[2] / "shared" / "lab" / "opensearch" / "start"
_READY_S = 60.0


@contextmanager
def opensearch_server(folder: Path) -> Iterator[str]:
    """The URL of a real OpenSearch; skips where there is none."""
    if url := os.environ.get("OPENSEARCH_URL"):
        yield url
        return
    if not LAB.exists() or shutil.which("java") is None:
        pytest.skip("needs OPENSEARCH_URL, or Java and the lab's OpenSearch beside the repository")
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([LAB, str(port), folder / "home"], stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"no OpenSearch at {url}")


def local_qdrant(name: str) -> Opens:
    """The client's own engine; all that come from here share what they hold."""
    shared = AsyncQdrantClient(":memory:")

    def opening(place: str = "") -> Qdrant:
        engine = Qdrant(":memory:", "", name)
        engine._client = shared
        return engine

    return opening


def delete_all(url: str, name: str) -> None:
    """Delete all indexes of this name, and their template."""
    httpx.delete(f"{url}/{name},{name}-*", params={"ignore_unavailable": "true"})
    httpx.delete(f"{url}/_index_template/{name}")


@contextmanager
def opens(kind: str, folder: Path, opensearch_url: Callable[[], str]) -> Iterator[Opens]:
    """How to get an engine of this kind; what it leaves on a server is deleted in the end."""
    name = f"test-{uuid4().hex[:12]}"
    if kind == "edge":
        yield lambda place="": Edge(folder / f"edge{place}")
    elif kind == "qdrant-local":
        yield local_qdrant(name)
    elif kind == "qdrant":
        url = os.environ.get("QDRANT_URL") or pytest.skip("needs QDRANT_URL")
        key = os.environ.get("QDRANT_KEY", "")
        yield lambda place="": Qdrant(url, key, name)
        for generation in range(1, 4):
            httpx.delete(f"{url}/collections/{name}-{generation}", headers={"api-key": key})
    else:
        url = opensearch_url()
        yield lambda place="": OpenSearch(url, name)
        delete_all(url, name)


def axis(*near: float) -> Floats:
    """A unit vector with these first components."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(near)] = near
    unit: Floats = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def point(id: int, text: str, vector: Floats | None = None, level: Level = Level.PASSAGE) -> Point:
    counted = count(text)
    weights = (counted.counts / (counted.counts + 1.5 * counted.length / 5)).astype(np.float32)
    return Point(id, level, text, counted.ids, weights, axis(1) if vector is None else vector)


def entry(document: str, *points: Point, facets: Sequence[str] = ()) -> Entry:
    return Entry(document, tuple(facets), points)


def asked(text: str) -> WeightedQuery:
    counted = count(text)
    return WeightedQuery(text, counted.ids, np.ones(len(counted.ids), np.float32))


async def found(
    engine: Engine,
    tenant: str,
    text: str = "common",
    *,
    vector: Floats | None = None,
    scope: Scope | None = None,
    level: Level = Level.PASSAGE,
    limit: int = 100,
) -> set[int]:
    """What a tenant finds by all means that the engine has; they have to agree."""
    ways: list[set[int]] = []
    if isinstance(engine, Edge | Qdrant):
        by_vector: Vectors = engine
        likeness = axis(1) if vector is None else vector
        ways.append(set(await by_vector.nearest(tenant, likeness, scope or Scope(), level, limit)))
    by_words: Words = engine
    ways.append(set(await by_words.matching(tenant, asked(text), scope or Scope(), level, limit)))
    assert ways[0] == ways[-1]
    return ways[0]
