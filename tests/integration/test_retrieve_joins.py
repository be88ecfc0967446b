"""A retrieve that starts, as a process of its own: it is not there before it knows the documents of the log."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from engines import opensearch_server
from fake_encoder import FakeEncoder
from in_process import Core, eventually
from libraries import document, sentence

from client.discovery import Pong, discover
from services.ingest.adapters.library import BusLibrary
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.search import opened
from services.retrieve.adapters.statistics import Statistics

pytestmark = pytest.mark.servers


@contextmanager
def retrieve(core: Core, redis: str, folder: Path, **settings: str) -> Iterator[Path]:
    """The process, and the file with what it says."""
    said = folder / "retrieve.log"
    places = {"PENSTOCK_NATS_URL": core.url, "PENSTOCK_REDIS_URL": redis, "PENSTOCK_DATA": str(folder)}
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.retrieve.app"], env=os.environ | places | settings, stderr=out
        )
        try:
            yield said
        finally:
            process.terminate()
            process.wait(30)


async def answers(core: Core) -> bool:
    return [pong.name for pong in await discover(core.bus.nc, "PING", Pong)] == ["penstock-retrieve"]


async def logged(core: Core, passages: int) -> None:
    rng = random.Random(1)
    for n in range(4):
        texts = [" ".join(sentence(rng) for _ in range(5)) for _ in range(passages // 4)]
        await BusLibrary(core.bus).publish(document(f"d{n}", *texts))


async def test_it_is_there_once_it_knows_every_document(core: Core, redis_server: str, tmp_path: Path) -> None:
    await logged(core, 200)
    with retrieve(core, redis_server, tmp_path):
        await eventually(lambda: answers(core), 90)
        statistics = Statistics(tmp_path / "index" / "statistics.sqlite")
        statistics.open()
        assert statistics.inventory() == {("acme", f"d{n}") for n in range(4)}
        statistics.close()


async def test_it_says_so_where_that_takes_too_long(core: Core, redis_server: str, tmp_path: Path) -> None:
    await logged(core, 8)
    with retrieve(core, redis_server, tmp_path, PENSTOCK_RETRIEVE_CATCH_UP_S="0") as said:
        await eventually(lambda: answers(core), 90)
        assert "documents are still being indexed after 0 s: questions may find less than there is" in said.read_text()


@pytest.mark.opensearch
async def test_several_that_start_at_once_on_a_new_server(tmp_path: Path) -> None:
    name = f"test-{uuid4().hex[:8]}"
    with opensearch_server(tmp_path) as url:
        async with AsyncExitStack() as stack:

            async def start(folder: Path) -> None:
                statistics, words = Statistics(folder / "statistics.sqlite"), OpenSearch(url, name)
                await stack.enter_async_context(opened(FakeEncoder(), statistics, Edge(folder / "edge"), words))

            await asyncio.gather(*(start(tmp_path / f"replica-{n}") for n in range(3)))
