"""Full queues: who submits is refused and told when to come back; what has been accepted is never dropped."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from in_process import Core, RerankSettings, eventually, question
from nats.aio.msg import Msg

from client.client import Penstock
from contracts import subjects
from contracts.item import Answer, Input, Item
from contracts.job import ItemResult
from contracts.steps import Decide, Rerank
from contracts.subjects import JOBS, WORK
from contracts.task import Task
from services.route.adapters.asks import SUBJECT, Asks
from services.route.domain.pattern import Pattern
from shared import bus as bus_module
from shared.bus import Bus
from shared.errors import QueueFull
from shared.hops import Hops

pytestmark = pytest.mark.servers


@pytest.fixture(autouse=True)
async def as_before(core: Core) -> AsyncIterator[None]:
    yield
    await core.bus.ensure()  # streams have their own limits again


async def limit(core: Core, stream: str, messages: int) -> None:
    config = (await core.bus.js.stream_info(stream)).config
    await core.bus.js.update_stream(config.evolve(max_msgs=messages))


async def test_the_client_gets_a_typed_error_and_what_it_submits_later_is_accepted(core: Core) -> None:
    await limit(core, JOBS.name, 2)
    async with await Penstock.connect(core.url, core.tenant) as penstock:
        for _ in range(2):
            await penstock.submit("noop", [Input(question="a")])
        with pytest.raises(QueueFull, match="the queue is full: try again in 5 s") as full:
            await penstock.submit("noop", [Input(question="a")], job="mine")
        assert full.value.after == 5.0
        await core.bus.js.purge_stream(JOBS.name)
        receipt = await penstock.submit("noop", [Input(question="a")], job="mine")
        assert (receipt.job, receipt.duplicate) == ("mine", False)


async def test_a_plain_publish_gets_the_servers_error_as_its_pub_ack(core: Core) -> None:
    await limit(core, JOBS.name, 1)
    subject = subjects.jobs(core.tenant, "noop")
    await core.bus.nc.request(subject, b"{}")
    refused = json.loads((await core.bus.nc.request(subject, b"{}")).data)
    assert refused["error"]["description"] == "maximum messages exceeded"
    assert await core.count(JOBS.name) == 1


async def test_an_ask_is_answered_with_the_refusal(core: Core) -> None:
    await limit(core, JOBS.name, 1)
    asks = Asks(Bus.on(core.bus.nc))

    class Request:
        def __init__(self, message: Msg) -> None:
            self._msg = message

    async def take(message: Msg) -> None:
        await asks.handle(Request(message))  # type: ignore[arg-type]  # all that it reads of a Request

    await core.bus.nc.subscribe(SUBJECT, cb=take)
    await core.bus.nc.request(subjects.jobs(core.tenant, "noop"), b"{}")
    reply = await core.bus.nc.request(subjects.ask(core.tenant, "noop"), b'{"question":"a"}')
    result = msgspec.json.decode(reply.data, type=ItemResult)
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("busy", "the queue is full: try again in 5 s")
    assert reply.headers == {
        "Nats-Service-Error": "the queue is full: try again in 5 s",
        "Nats-Service-Error-Code": "503",
    }


async def test_a_worker_waits_for_room_in_work_and_drops_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step publishes the next one before it settles; here four of them share the last two places."""
    monkeypatch.setattr(bus_module, "_FULL_S", 0.05)
    patient = Hops(Bus.on(core.bus.nc, patient=True), core.hops.groups)
    calls: list[str] = []

    async def note(task: Task, step: Rerank) -> Sequence[Item]:
        calls.append(task.id)
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]

    await core.start_job([Rerank(), Decide()], [[question(n)] for n in range(12)])
    await limit(core, WORK.name, 14)
    await core.rerank(note, RerankSettings(interactive_slots=4, ack_wait_s=2), patient)
    await core.route(patient, Pattern("p", "p", open=lambda options: [], decide=lambda item, options: []))
    report = await core.report(seconds=20)
    assert (report.state, report.succeeded, report.failed) == ("done", 12, 0)
    assert sorted(calls) == sorted(f"{core.group()}/{n}" for n in range(12))
    assert await core.dead() == []


async def test_a_worker_whose_next_queue_is_full_keeps_its_task_until_there_is_room(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_FULL_S", 0.05)
    patient = Hops(Bus.on(core.bus.nc, patient=True), core.hops.groups)
    calls = 0

    async def spread(task: Task, step: Rerank) -> Sequence[Item]:
        nonlocal calls
        calls += 1
        return task.items

    await core.start_job([Rerank()], [[question(0)]])
    await core.bus.publish("work.nobody.batch", b"in the way")
    await limit(core, WORK.name, 2)
    await core.rerank(spread, RerankSettings(attempts=1, ack_wait_s=0.5), patient)
    await core.shard(0)
    await eventually(lambda: calls == 1)
    await asyncio.sleep(1.5)  # three times ack_wait: the join cannot be published, and nobody else gets the task
    assert (calls, await core.dead(), await core.count(WORK.name)) == (1, [], 2)
    await core.bus.js.purge_stream(WORK.name, subject="work.nobody.batch")
    await core.route(patient)
    assert (await core.report()).succeeded == 1
    assert calls == 1
