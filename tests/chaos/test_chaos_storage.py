"""The disk under JetStream is full: who submits is told so, and what has been accepted waits until there is room."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from in_process import Core, eventually, open_core, question
from servers import NatsServer

from client.client import Penstock
from contracts import subjects
from contracts.item import Answer, Input, Item
from contracts.steps import Rerank
from contracts.subjects import EVENTS, WORK
from contracts.task import Task
from loadtest.chaos.verdict import Found, verdict
from shared.bus import Bus
from shared.errors import QueueFull
from shared.hops import Hops

pytestmark = pytest.mark.servers


@pytest.fixture
async def small(tmp_path: Path, redis_server: str) -> AsyncIterator[Core]:
    """On a server whose storage shrinks to 8 MB once the streams are there."""
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with open_core(server.url, redis_server) as core:
            server.stop()
            config = tmp_path / "nats.conf"
            config.write_text(config.read_text().replace("64GB", "8MB"))
            server.start()
            await eventually(lambda: core.bus.nc.is_connected)
            yield core
    finally:
        server.stop()


async def test_a_job_waits_for_room_and_then_ends_with_all_its_items(small: Core) -> None:
    async def passes(task: Task, step: Rerank) -> Sequence[Item]:
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]

    await small.start_job([Rerank()], [[question(0), question(1)], [question(2)]])
    with pytest.raises(QueueFull, match="the storage of NATS is full: try again in 5 s"):
        await _fill(small)
    async with await Penstock.connect(small.url, small.tenant) as penstock:
        with pytest.raises(QueueFull, match="storage"):
            await penstock.submit("noop", [Input(question="a")])

    patient = Hops(Bus.on(small.bus.nc, patient=True), small.hops.groups)  # as services have it
    await small.route(patient)
    await small.rerank(passes, hops=patient)
    await asyncio.sleep(1.5)
    assert await small.count(WORK.name) == 2
    assert await small.hops.parked(small.group()) is not None

    await small.bus.js.purge_stream(EVENTS.name)
    report = await small.report(seconds=20)
    shards = [await small.shard(index) for index in range(2)]
    assert verdict(3, Found(report, shards, {})).faults == []
    assert await small.dead() == []


async def _fill(core: Core) -> None:
    for _ in range(1000):
        await core.bus.publish(subjects.events(core.tenant, "other"), b"x" * 100_000)
