"""Which engine serves vectors and which serves words: a matter of settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from services.retrieve.adapters.address import address
from services.retrieve.adapters.chosen import EDGE, chosen, sweep, with_engines
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain.ports import Note, VectorEngine, WordEngine, unnoted
from shared.encoder import Encoder
from shared.tls import NO_TLS, Tls, check_tls

if TYPE_CHECKING:
    from services.retrieve.adapters.qdrant import Qdrant

_NAMES = {"qdrant": "Qdrant", "opensearch": "OpenSearch"}
FOLDER = "index"
"""Within the data folder."""


@asynccontextmanager
async def open_search(
    settings: RetrieveSettings, data: Path, tls: Tls = NO_TLS, note: Note = unnoted, *, keep: bool = True
) -> AsyncIterator[Search]:
    """Open the index that the settings describe; what is embedded lies under `<data>/index/`. Unless it is to be kept,
    the engines forget everything in the end.

    Raises Retryable where a server does not answer or turns the credentials down, TlsError where certificates
    do not do.
    """
    folder = data / FOLDER
    choice = chosen(settings, folder)
    used = with_engines(settings, choice.serving)
    await check_engines(used, tls)
    vectors, words = engines(used, folder, tls, choice.edge)
    statistics = Statistics(folder / statistics_name(used))
    async with opened(
        Encoder(threads=settings.encoder_threads), statistics, vectors, words, note, settings.cache_ttl_s
    ) as search:
        try:
            sweep(folder, choice)
            yield search
        finally:
            if not keep:
                for engine in {id(engine): engine for engine in (vectors, words)}.values():
                    await engine.discard()


async def check_engines(settings: RetrieveSettings, tls: Tls) -> None:
    """Raises TlsError where the certificates of a server that is used do not do."""
    for engine, url in (("qdrant", settings.qdrant_url), ("opensearch", settings.opensearch_url)):
        if engine in (settings.vectors, settings.words):
            await check_tls(_NAMES[engine], url, tls)


def engines(
    settings: RetrieveSettings, folder: Path, tls: Tls = NO_TLS, edge: str = EDGE
) -> tuple[VectorEngine, WordEngine]:
    """The two engines; one thing where both are the same."""
    vectors = _edge_or_qdrant(settings.vectors, settings, folder / edge, tls)
    if settings.words == settings.vectors:
        return vectors, vectors
    if settings.words == "opensearch":
        from services.retrieve.adapters.opensearch import OpenSearch  # a third of a second that others need not wait

        roll_at, timeout_s = settings.opensearch_roll_at, settings.engine_timeout_s
        return vectors, OpenSearch(settings.opensearch_url, settings.index_name, roll_at, timeout_s, tls=tls)
    return vectors, _edge_or_qdrant(settings.words, settings, folder / edge, tls)


def _edge_or_qdrant(
    which: Literal["edge", "qdrant"], settings: RetrieveSettings, folder: Path, tls: Tls
) -> "Edge | Qdrant":
    if which == "edge":
        return Edge(folder)
    from services.retrieve.adapters.qdrant import Qdrant  # more than a second that others need not wait
    from services.retrieve.adapters.qdrant_shape import Storage

    storage = Storage(settings.qdrant_quantization, settings.qdrant_on_disk)
    url, key = settings.qdrant_url, settings.qdrant_key
    return Qdrant(url, key, settings.index_name, storage, settings.engine_timeout_s, tls=tls)


def statistics_name(settings: RetrieveSettings) -> str:
    """Each choice of engines has statistics of its own, with its own place in the log of documents: an engine that was
    out of use for a while is behind, and is brought up to date when it is chosen again."""
    used = {settings.vectors, settings.words}
    if used == {"edge"}:
        return "statistics.sqlite"
    places = [settings.vectors, settings.words, settings.index_name]
    places += [address(settings.qdrant_url)] * ("qdrant" in used)
    places += [address(settings.opensearch_url)] * ("opensearch" in used)
    digest = blake2b("\0".join(places).encode(), digest_size=4).hexdigest()
    return f"statistics-{settings.vectors}-{settings.words}-{digest}.sqlite"
