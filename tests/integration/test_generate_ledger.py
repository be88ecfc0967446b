"""The ledger of paid completions: the same behaviour in memory and in a real Redis."""

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from client.stack.config import redis_binary
from contracts.item import Completion, Usage
from services.generate_gpu.adapters.ledger import MemoryLedger, RedisLedger
from services.generate_gpu.domain.ledger import Entry, Ledger, Paid
from shared.errors import Retryable

pytestmark = pytest.mark.servers

ENTRY = Entry("acme/j1/0", 3, 7)
PAID = Paid(
    drawn=[Completion("yes", "large", data={"total": 3}, usage=Usage(10, 4, 2, calls=1))],
    repair=Completion("no", "large"),
    failures=2,
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(redis_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    redis: Redis = Redis.from_url(redis_url)
    await redis.flushdb()
    yield RedisLedger(redis, ttl_s=60)
    await redis.aclose()


async def test_what_was_written_is_read_back(ledger: Ledger) -> None:
    assert await ledger.read(ENTRY.task, ENTRY.hop) == {}
    await ledger.write(ENTRY, PAID)
    assert await ledger.read(ENTRY.task, ENTRY.hop) == {7: PAID}


async def test_the_last_writing_counts_and_items_do_not_mix(ledger: Ledger) -> None:
    await ledger.write(ENTRY, Paid(failures=1))
    await ledger.write(Entry(ENTRY.task, ENTRY.hop, 8), Paid(failures=9))
    await ledger.write(ENTRY, PAID)
    assert await ledger.read(ENTRY.task, ENTRY.hop) == {7: PAID, 8: Paid(failures=9)}


async def test_tasks_and_hops_do_not_mix(ledger: Ledger) -> None:
    await ledger.write(ENTRY, PAID)
    assert await ledger.read(ENTRY.task, ENTRY.hop + 1) == {}
    assert await ledger.read("acme/j1/1", ENTRY.hop) == {}


async def test_many_items_write_at_the_same_time(ledger: Ledger) -> None:
    entries = [Entry(ENTRY.task, ENTRY.hop, n) for n in range(50)]
    await asyncio.gather(*(ledger.write(entry, Paid(failures=entry.n)) for entry in entries))
    assert {n: paid.failures for n, paid in (await ledger.read(ENTRY.task, ENTRY.hop)).items()} == {
        n: n for n in range(50)
    }


async def test_redis_forgets_in_the_end(redis_url: str) -> None:
    redis: Redis = Redis.from_url(redis_url)
    await redis.flushdb()
    ledger = RedisLedger(redis, ttl_s=60)
    await ledger.write(ENTRY, PAID)
    keys = await redis.keys("*")
    assert len(keys) == 1
    await redis.hset(keys[0], "calls:7", 2)  # an earlier version counted here
    assert await ledger.read(ENTRY.task, ENTRY.hop) == {7: PAID}
    assert 0 < await redis.ttl(keys[0]) <= 60
    await redis.aclose()


async def test_a_redis_that_does_not_answer_is_retryable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        redis: Redis = Redis.from_url(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        ledger = RedisLedger(redis, ttl_s=60)
        for attempt in (ledger.read(ENTRY.task, 0), ledger.write(ENTRY, PAID)):
            with pytest.raises(Retryable, match="the ledger in Redis does not answer") as caught:
                await attempt
            assert isinstance(caught.value.__cause__, RedisError)


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("redis-server did not start")
