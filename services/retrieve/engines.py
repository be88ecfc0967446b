"""Which engine serves vectors and which serves words: a matter of settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.config import RetrieveSettings
from services.retrieve.search import Search, opened
from shared.encoder import Encoder


@asynccontextmanager
async def open_search(settings: RetrieveSettings, data: Path) -> AsyncIterator[Search]:
    """Open the index that the settings describe, under `<data>/index/`."""
    folder = data / "index"
    edge = Edge(folder / "edge")
    statistics = Statistics(folder / "statistics.sqlite")
    async with opened(Encoder(threads=settings.encoder_threads), statistics, edge, edge) as search:
        yield search
