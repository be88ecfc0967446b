"""Servers that all integration tests of a session share, and workers on them."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
from servers import NatsServer, start_nats, start_redis

if TYPE_CHECKING:
    from generate_bench import Bench
    from in_process import Core
    from ladder_scene import Scene
    from redis.asyncio import Redis

    from services.route.adapters.replicas import Replicas


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with start_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
async def redis(redis_server: str) -> "AsyncIterator[Redis]":
    """A connection to an empty Redis."""
    from redis.asyncio import Redis

    connection: Redis = Redis.from_url(redis_server)
    await connection.flushdb()
    yield connection
    await connection.aclose()


@pytest.fixture
async def core(nats_server: NatsServer, redis_server: str) -> "AsyncIterator[Core]":
    """A connection with empty streams and an empty Redis; its workers are drained at the end."""
    from in_process import open_core  # imported here: unit tests do without OpenTelemetry and NATS

    async with open_core(nats_server.url, redis_server) as opened:
        yield opened


@pytest.fixture
async def replicas(core: "Core") -> "AsyncIterator[Replicas]":
    """What route knows of the replicas of generate."""
    from services.route.adapters.replicas import Replicas  # imported here, as above

    opened = Replicas(core.bus)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def bench() -> "AsyncIterator[Bench]":
    """A workshop of generate around a scripted model."""
    from generate_bench import open_bench  # imported here, as above

    async with open_bench() as opened:
        yield opened


@pytest.fixture
async def scene(redis: "Redis") -> "AsyncIterator[Scene]":
    """Replicas of generate with a ladder of models."""
    from ladder_scene import open_scene  # imported here, as above

    async with open_scene(redis) as opened:
        yield opened
