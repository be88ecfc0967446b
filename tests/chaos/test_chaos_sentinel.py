"""The primary Redis is killed in the middle of a job and its replica promoted, by Sentinels or by hand.

What the replica did not have yet is counted anew: it is another run of the server than the one that counted.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from in_process import Core
from long_job import NEEDED, long_job
from redis import Redis
from redis.exceptions import RedisError
from servers import NatsServer, free_port, wait_for_port

from client.stack.config import redis_binary

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

ITEMS = 3_000
WORD = "word-of-a-test"
SENTINEL = """\
port {port}
dir {folder}
sentinel monitor penstock 127.0.0.1 {primary} 2
sentinel auth-pass penstock {word}
sentinel down-after-milliseconds penstock 1000
sentinel failover-timeout penstock 3000
"""


class Pair:
    """A primary and its replica, both with a password."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.primary, self.replica = free_port(), free_port()
        common = ["--requirepass", WORD, "--masterauth", WORD, "--save", "", "--dir", str(folder)]
        self.process = stack.enter_context(started(["--port", str(self.primary), *common]))
        stack.enter_context(
            started(["--port", str(self.replica), "--replicaof", "127.0.0.1", str(self.primary), *common])
        )
        wait_for_port(self.primary)
        until_true(lambda: self.replication()["master_link_status"] == "up")

    def on(self, port: int) -> Redis:
        return Redis(port=port, password=WORD)

    def promote(self) -> None:
        self.on(self.replica).replicaof("no", "one")

    def is_promoted(self) -> bool:
        return self.replication()["role"] == "master"

    def replication(self) -> dict[str, object]:
        """What the replica says of itself."""
        found = self.on(self.replica).info("replication")
        assert isinstance(found, dict)
        return found


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(redis_binary()), *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def sentinels(folder: Path, primary: int, stack: ExitStack) -> list[int]:
    """Three of them; returns their ports when they know of each other and of the replica."""
    ports = [free_port() for _ in range(3)]
    for port in ports:
        config = folder / f"sentinel-{port}.conf"
        config.write_text(SENTINEL.format(port=port, folder=folder, primary=primary, word=WORD))
        stack.enter_context(started([str(config), "--sentinel"]))
    for port in ports:
        until_true(partial(knows_all, port))
    return ports


def knows_all(port: int) -> bool:
    state = Redis(port=port).sentinel_master("penstock")
    assert isinstance(state, dict)
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


def until_true(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass  # it is starting
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("by", ["sentinels", "hand"])
async def test_a_job_ends_whole_when_the_primary_dies_and_a_replica_takes_over(
    by: str, tmp_path: Path, nats_server: NatsServer, core: Core
) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack)
        url = f"redis://:{WORD}@127.0.0.1:{pair.primary},127.0.0.1:{pair.replica}/0"
        if by == "sentinels":
            places = ",".join(f"127.0.0.1:{port}" for port in sentinels(tmp_path, pair.primary, stack))
            url = f"redis+sentinel://:{WORD}@{places}/penstock/0"
        urls = dict.fromkeys(NEEDED, nats_server.url)
        async with long_job(tmp_path, ITEMS, nats_server.url, urls, url) as job:
            await job.submit()
            await job.until_answered(0.3)
            pair.process.kill()
            if by == "hand":
                pair.promote()
            until_true(pair.is_promoted)
            await job.until_answered(0.7)
            _, verdict = await job.end(90)
            assert verdict.faults == []
            assert (verdict.arrived, verdict.lost, verdict.doubled, verdict.failed) == (ITEMS, 0, 0, 0)
            assert b"route:counted" in pair.on(pair.replica).keys("route:*")
