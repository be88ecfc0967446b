"""The Python client against real servers; a small stand-in plays the services, as their published protocol says."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import nats
import pytest
from stand_in import StandIn

from client.client import Penstock
from client.errors import JobRejected, TimedOut, Unreachable, UsageError
from client.stack import StackInfo, down, up
from client.stack.config import nats_url as url_of
from client.stack.secrets import load
from contracts import accounts, subjects
from contracts.events import Hop
from contracts.item import Answer, Input
from contracts.job import ItemResult, JobReport, ShardResult, TokenDelta
from shared.bus import Bus
from shared.errors import Retryable

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    data = tmp_path_factory.mktemp("client")
    yield up(data, services={}, tenants=["default", "other"])
    down(data)


@pytest.fixture
async def stand_in(stack: StackInfo) -> AsyncIterator[StandIn]:
    nc = await nats.connect(stack.operator_url)
    bus = Bus.on(nc, accounts=True)
    await bus.ensure()
    stand_in = StandIn(bus)
    await nc.subscribe("jobs.*.*", cb=stand_in.take)
    await nc.flush()
    yield stand_in
    await nc.close()


@pytest.fixture
async def penstock(stack: StackInfo, stand_in: StandIn) -> AsyncIterator[Penstock]:
    async with await Penstock.connect(stack.nats_url) as penstock:
        yield penstock


async def all_results(penstock: Penstock, receipt: object) -> list[ItemResult]:
    return [item async for shard in penstock.results(receipt) for item in shard.items]  # type: ignore[arg-type]  # a receipt or an id


async def test_a_job_is_submitted_and_its_results_come_with_its_report(penstock: Penstock) -> None:
    receipt = await penstock.submit("rag", [Input(question=f"q{n}", id=f"id{n}") for n in range(5)])
    items = await all_results(penstock, receipt)
    assert [(item.n, item.id) for item in items] == [(n, f"id{n}") for n in range(5)]
    report = await penstock.report(receipt)
    assert (report.size, report.shards) == (5, 3)
    assert await penstock.find_report(receipt.job) == report
    assert sum([tally.succeeded async for tally in penstock.tallies(receipt.job)]) == 5
    assert len([shard async for shard in penstock.stored_results(receipt.job)]) == 3


async def test_results_come_before_the_job_is_submitted_too(penstock: Penstock) -> None:
    waiting = asyncio.create_task(all_results(penstock, "early"))
    report = asyncio.create_task(penstock.report("early"))
    await asyncio.sleep(0.3)
    await penstock.submit("rag", [Input(question="q")], job="early")
    assert len(await waiting) == 1
    assert (await report).state == "done"


async def test_the_same_id_twice_is_one_submission(penstock: Penstock, stand_in: StandIn) -> None:
    first = await penstock.submit("rag", [Input(question="q")], job="twice")
    second = await penstock.submit("rag", [Input(question="q")], job="twice")
    assert not first.duplicate
    assert second.duplicate
    assert second.sequence == first.sequence


async def test_the_same_id_of_two_tenants_is_two_submissions(penstock: Penstock, stack: StackInfo) -> None:
    await penstock.submit("rag", [Input(question="q")], job="shared-id")
    url = url_of(stack.nats_port, "other", load(Path(stack.data)).tenants["other"])
    async with await Penstock.connect(url, tenant="other") as other:
        assert not (await other.submit("rag", [Input(question="q")], job="shared-id")).duplicate


async def test_an_ask_streams_forgets_an_attempt_that_was_given_up_and_hears_nothing_twice(penstock: Penstock) -> None:
    deltas: list[TokenDelta] = []
    result = await penstock.ask("hello", pattern="tokens", on_delta=deltas.append)
    assert result.answer == Answer("HELLO", "extractive")
    assert "".join(delta.text for delta in deltas if delta.attempt == 2) == "Hello"
    assert [delta.attempt for delta in deltas] == [1, 2, 2]
    assert not [one for one in penstock.nc._subs.values() if one.subject.startswith("tokens.")]  # nobody listens on


async def test_a_rejected_submission_raises_what_is_wrong(penstock: Penstock) -> None:
    receipt = await penstock.submit("nonsense", [Input(question="q")])
    with pytest.raises(JobRejected, match="no such pattern"):
        await penstock.report(receipt)
    with pytest.raises(JobRejected, match="no such pattern"):
        await all_results(penstock, receipt)
    with pytest.raises(JobRejected, match="no such pattern"):
        await penstock.ask("q", pattern="nonsense")


async def test_an_id_in_use_is_rejected_at_the_place_of_the_submission(penstock: Penstock) -> None:
    receipt = await penstock.submit("rag", [Input(question="q")], job="in-use")
    with pytest.raises(JobRejected, match="in use"):
        await penstock.report(receipt)
    with pytest.raises(JobRejected, match="in use"):
        await all_results(penstock, receipt)


async def test_a_line_that_is_no_json_is_sent_on_and_fails_alone(penstock: Penstock, stand_in: StandIn) -> None:
    receipt = await penstock.submit("rag", [b'{"question": "good"}', b'{"question": ', b'{"question": "\xff"}'])
    items = await all_results(penstock, receipt)
    assert [item.failure is None for item in items] == [True, False, False]
    assert stand_in.jobs[-1].items_claim


async def test_a_job_of_several_megabytes_goes_by_claim(penstock: Penstock, stand_in: StandIn) -> None:
    receipt = await penstock.submit("rag", [Input(question="x" * 40_000) for _ in range(100)])
    items = await all_results(penstock, receipt)
    assert len(items) == 100
    assert items[99].answer == Answer("X" * 40_000, "extractive")
    assert stand_in.jobs[-1].items == []


async def test_a_result_too_large_for_a_message_is_fetched_from_the_store(penstock: Penstock) -> None:
    result = await penstock.ask("y" * 700_000)
    assert result.answer == Answer("Y" * 700_000, "extractive")


async def test_what_does_not_come_in_time_says_where_to_look(penstock: Penstock) -> None:
    with pytest.raises(TimedOut, match=r"no answer within 0\.2 s.*penstock job slow"):
        await penstock.ask("q", pattern="never", job="slow", timeout_s=0.2)
    with pytest.raises(TimedOut):
        await penstock.report("slow", timeout_s=0.2)


async def test_events_are_read_to_their_end(penstock: Penstock, stand_in: StandIn) -> None:
    assert await penstock.events("no-such-job") == []
    for hop in range(3):
        record = Hop("default", "audited", "t", "route", "open", hop, at=1.0)
        await stand_in.bus.publish(subjects.events("default", "audited"), msgspec.json.encode(record))
    assert [event.hop for event in await penstock.events("audited")] == [0, 1, 2]


async def test_cancel_is_published_with_its_reason(penstock: Penstock, stand_in: StandIn) -> None:
    await penstock.cancel("some-job", "no longer needed")
    stored = await stand_in.bus.last(accounts.control("default"), subjects.cancel("default", "some-job"))
    assert stored is not None
    assert stored.data == b'{"reason":"no longer needed"}'


async def test_words_that_cannot_stand_in_a_subject_are_refused(penstock: Penstock, stack: StackInfo) -> None:
    with pytest.raises(UsageError, match="job: expected 1 to 64"):
        await penstock.submit("rag", [Input(question="q")], job="a.b")
    with pytest.raises(UsageError, match="pattern"):
        await penstock.submit("*", [Input(question="q")])
    with pytest.raises(UsageError, match="tenant"):
        await Penstock.connect(stack.nats_url, tenant="a b")


async def test_nobody_at_the_address_is_said_at_once() -> None:
    with pytest.raises(Unreachable, match="penstock up"):
        await Penstock.connect("nats://127.0.0.1:1")


def test_results_go_on_when_the_server_restarts(tmp_path: Path) -> None:
    """The reader follows through a restart: nothing is missed and nothing comes twice."""
    info = up(tmp_path, services={})
    try:
        assert asyncio.run(read_through_a_restart(info)) == [0, 1, 2, 3, 4, 5]
    finally:
        down(tmp_path)


async def read_through_a_restart(info: StackInfo) -> list[int]:
    seen: list[int] = []
    three = asyncio.Event()

    async def read(penstock: Penstock) -> None:
        async for result in penstock.results("j"):
            seen.append(result.shard)  # the list is looked at while it grows
            if len(seen) == 3:
                three.set()

    async with await Penstock.connect(info.nats_url) as penstock, await Penstock.connect(info.operator_url) as writer:
        reader = asyncio.create_task(read(penstock))
        for shard in range(3):
            await write(writer, str(shard), ShardResult("j", shard, [ItemResult(shard)]))
        await three.wait()
        os.kill(info.pids["nats"], signal.SIGTERM)
        for shard in range(3, 6):
            await write(writer, str(shard), ShardResult("j", shard, [ItemResult(shard)]))
        await write(writer, "done", JobReport("j", "default", "x", "done"))
        await asyncio.wait_for(reader, 30)
    return seen


async def write(writer: Penstock, place: str, what: ShardResult | JobReport) -> None:
    """Publish under a message id until the server, which is restarting, confirms."""
    while True:
        try:
            await writer.bus.publish(f"results.default.j.{place}", msgspec.json.encode(what), msg_id=f"j.{place}")
        except Retryable:
            await asyncio.sleep(0.1)
        else:
            return
