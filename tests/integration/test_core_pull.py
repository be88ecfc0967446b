"""The pull loop on a real nats-server: never more than free slots, and back after the server was killed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from in_process import Core, eventually
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from servers import NatsServer, start_nats

from shared import pull as pull_module
from shared.pull import Consumer, Pull

pytestmark = pytest.mark.servers

SLOTS = 3


class Desk:
    """A consumer of its own and a pull loop on it that notes what it gets."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.js = nc.jetstream()
        self.now = self.most = self.most_pending = 0
        self.seen: list[bytes] = []
        self.pause_s = 0.0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.pull = Pull(nc, Consumer("DESK", "desk"), SLOTS, self.handle)

    async def open(self) -> None:
        await self.js.add_stream(StreamConfig(name="DESK", subjects=["desk.*"]))
        await self.js.add_consumer(
            "DESK", ConsumerConfig(durable_name="desk", ack_policy=AckPolicy.EXPLICIT, ack_wait=2, max_deliver=-1)
        )

    async def handle(self, message: Msg) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go_on.wait()
        await asyncio.sleep(self.pause_s)
        self.now -= 1
        self.seen.append(message.data)
        try:
            await message.ack_sync(timeout=0.5)  # as a Delivery does
        except nats.errors.Error:
            return  # the server is away: it will deliver again

    async def publish(self, first: int, last: int) -> None:
        for n in range(first, last):
            await self.js.publish("desk.x", str(n).encode())

    async def pending(self) -> int:
        info = await self.js.consumer_info("DESK", "desk")
        self.most_pending = max(self.most_pending, info.num_ack_pending or 0)
        return info.num_ack_pending or 0


@pytest.fixture
async def desk(core: Core) -> AsyncIterator[Desk]:
    opened = Desk(core.bus.nc)
    await opened.open()
    yield opened
    opened.go_on.set()
    await opened.pull.drain(1)
    await opened.js.delete_stream("DESK")


async def test_a_burst_never_brings_more_messages_than_slots(desk: Desk) -> None:
    desk.pause_s = 0.001
    await desk.pull.start()
    await desk.publish(0, 500)

    async def done() -> bool:
        await desk.pending()
        return len(desk.seen) == 500

    await eventually(done, 30)
    assert sorted(map(int, desk.seen)) == list(range(500))
    assert desk.most == SLOTS
    assert 1 <= desk.most_pending <= SLOTS


async def test_what_waits_behind_full_slots_stays_on_the_server(desk: Desk) -> None:
    desk.go_on.clear()
    await desk.publish(0, 10)
    await desk.pull.start()
    await eventually(lambda: desk.now == SLOTS)
    await asyncio.sleep(0.2)
    info = await desk.js.consumer_info("DESK", "desk")
    assert (desk.now, info.num_ack_pending, info.num_pending) == (SLOTS, SLOTS, 10 - SLOTS)


async def test_requests_that_expire_are_asked_again_and_count_right(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "_EXPIRES_S", 0.25)
    monkeypatch.setattr(pull_module, "_HEARTBEAT_S", 0.1)
    await desk.pull.start()
    first = desk.pull._requests
    await eventually(lambda: desk.pull._requests >= first + 3)
    desk.go_on.clear()
    await desk.publish(0, 1)
    await eventually(lambda: desk.now == 1)
    await asyncio.sleep(0.6)  # the rest of the request expires while one slot is taken
    assert desk.pull._asked == SLOTS - 1
    await desk.publish(1, 20)
    await eventually(lambda: desk.now == SLOTS)
    assert await desk.pending() == SLOTS
    desk.go_on.set()
    await eventually(lambda: len(desk.seen) == 20)
    assert desk.most == SLOTS


async def test_requests_that_overlap_and_expire_count_right(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "_EXPIRES_S", 0.25)
    monkeypatch.setattr(pull_module, "_HEARTBEAT_S", 0.1)
    await desk.pull.start()
    for n in range(20):  # each message that is done asks for one more, beside the older requests
        await desk.publish(n, n + 1)
        await asyncio.sleep(0.1)
        assert desk.pull._asked + len(desk.pull._running) <= SLOTS
    desk.go_on.clear()
    await desk.publish(20, 40)
    await asyncio.sleep(0.3)
    assert (desk.now, await desk.pending()) == (SLOTS, SLOTS)


async def test_a_consumer_that_is_away_is_asked_now_and_then_not_all_the_time(desk: Desk) -> None:
    await desk.js.delete_consumer("DESK", "desk")
    await desk.pull.start()
    await asyncio.sleep(0.7)
    assert 2 <= desk.pull._requests <= 6
    await desk.open()
    await desk.publish(0, 5)
    await eventually(lambda: len(desk.seen) == 5)


async def test_drain_takes_nothing_new_and_lets_finish_what_runs(desk: Desk) -> None:
    desk.pause_s = 0.3
    await desk.publish(0, SLOTS)
    await desk.pull.start()
    await eventually(lambda: desk.now == SLOTS)
    await desk.pull.drain(5)
    assert (desk.now, len(desk.seen)) == (0, SLOTS)
    await desk.publish(SLOTS, SLOTS + 3)
    await asyncio.sleep(0.3)
    assert len(desk.seen) == SLOTS


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    with start_nats(tmp_path) as server:
        yield server


@pytest.mark.parametrize("resumed_by", ["reconnect", "itself"])
async def test_it_goes_on_after_the_server_was_killed(
    own_server: NatsServer, monkeypatch: pytest.MonkeyPatch, resumed_by: str
) -> None:
    monkeypatch.setattr(pull_module, "_HEARTBEAT_S", 0.2)
    monkeypatch.setattr(pull_module, "_DEAF_S", 0.6)
    desk: Desk

    async def reconnected() -> None:
        if resumed_by == "reconnect":
            await desk.pull.resume()

    async def silent(_: Exception) -> None:
        return

    nc = await nats.connect(
        own_server.url,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        reconnected_cb=reconnected,
        error_cb=silent,
    )
    desk = Desk(nc)
    await desk.open()
    await desk.pull.start()
    await desk.publish(0, 20)
    await eventually(lambda: len(set(desk.seen)) == 20)
    desk.go_on.clear()
    await desk.publish(20, 40)
    await eventually(lambda: desk.now == SLOTS)
    own_server.kill()
    desk.go_on.set()  # the slots become free while there is no server
    await eventually(lambda: not desk.pull._running)
    own_server.start()
    await eventually(lambda: nc.is_connected)
    await desk.publish(40, 60)
    await eventually(lambda: len(set(desk.seen)) == 60, 30)
    assert sorted(map(int, set(desk.seen))) == list(range(60))
    await desk.pull.drain(1)
    await nc.close()
