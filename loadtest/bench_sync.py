"""What a power cut may cost, and what it costs that it may not: NATS and Redis with and without a sync for each write.

`python -m loadtest.bench_sync`. Servers of its own in a temporary folder, each setting in turn, the best of all
rounds: milliseconds of one write after the other, and writes a second with 64 at once. The last line is JSON.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from client.stack.config import nats_binary, redis_binary
from client.stack.ports import free_ports
from contracts.task import Tally
from shared.groups import Groups

ROUNDS = 3
ONE_BY_ONE = 200
AT_ONCE, TOGETHER = 64, 3200
MESSAGE = b"x" * 2000

NATS = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{folder}", sync_interval: {sync} }}
"""

Write = Callable[[int], Awaitable[object]]


def main() -> int:
    best: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for name, measure, sync in SETTINGS:
            ms, rate = asyncio.run(measure(sync))
            before = best.get(name, (ms, rate))
            best[name] = (min(ms, before[0]), max(rate, before[1]))
    for name, (ms, rate) in best.items():
        print(f"{name:26} {ms:7.2f} ms a write, {rate:9,.0f} writes/s with {AT_ONCE} at once")
    print(json.dumps({name: {"ms": round(ms, 3), "per_s": round(rate)} for name, (ms, rate) in best.items()}))
    return 0


async def _nats(sync: str) -> tuple[float, float]:
    """A message of 2 kB to a stream, acknowledged."""
    with tempfile.TemporaryDirectory(prefix="penstock-sync-") as folder:
        (port,) = free_ports((0,))
        config = Path(folder) / "nats.conf"
        config.write_text(NATS.format(port=port, folder=folder, sync=sync))
        with _server([str(nats_binary()), "-c", str(config)]):
            url = f"nats://127.0.0.1:{port}"
            nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_quiet)
            js = nc.jetstream()
            await js.add_stream(name="SYNC", subjects=["sync.>"])
            measured = await _measure(lambda n: js.publish(f"sync.{n}", MESSAGE))
            await nc.close()
            return measured


async def _redis(sync: str) -> tuple[float, float]:
    """An arrival in a group, as it is counted."""
    with tempfile.TemporaryDirectory(prefix="penstock-sync-") as folder:
        (port,) = free_ports((0,))
        options = ["--port", str(port), "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", sync]
        with _server([str(redis_binary()), *options]):
            async with Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
                await _ready(redis)
                groups = Groups(redis)
                await groups.open("g", 1_000_000)
                return await _measure(lambda n: groups.arrive("g", n, Tally(succeeded=15)))


async def _ready(redis: "Redis") -> None:
    while True:
        try:
            await redis.ping()
        except RedisConnectionError:
            await asyncio.sleep(0.05)
        else:
            return


async def _measure(write: Write) -> tuple[float, float]:
    began = time.perf_counter()
    for n in range(ONE_BY_ONE):
        await write(n)
    ms = (time.perf_counter() - began) * 1000 / ONE_BY_ONE
    began = time.perf_counter()
    for start in range(ONE_BY_ONE, ONE_BY_ONE + TOGETHER, AT_ONCE):
        await asyncio.gather(*(write(n) for n in range(start, start + AT_ONCE)))
    return ms, TOGETHER / (time.perf_counter() - began)


async def _quiet(_: Exception) -> None:
    """The server is still starting."""


@contextmanager
def _server(command: list[str]) -> Iterator[None]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


SETTINGS = (
    ("nats, every two minutes", _nats, "2m"),
    ("nats, always", _nats, "always"),
    ("redis, every second", _redis, "everysec"),
    ("redis, always", _redis, "always"),
)

if __name__ == "__main__":
    sys.exit(main())
