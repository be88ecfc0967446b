"""Arrive: one result, one count, one join, wherever a worker dies and whatever is delivered twice."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from in_process import Core, RerankSettings, eventually, question

from contracts import subjects
from contracts.events import Hop
from contracts.item import Answer, Failure, Item, Usage
from contracts.job import ItemResult, ShardResult
from contracts.steps import Join, Rerank
from contracts.subjects import EVENTS, RESULTS, WORK
from contracts.task import Tally, Task
from shared import delivery as delivery_module
from shared.bus import Bus
from shared.delivery import Delivery
from shared.groups import Count, Groups
from shared.hops import Hops

pytestmark = pytest.mark.servers

COST = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, calls=1, cost_usd=0.25)


class Crash(Exception):
    """A worker dies here: nothing after it runs, and the message is delivered again."""


@dataclass
class Once:
    """Dies at the first call that fits, before or after it has had its effect."""

    fits: Callable[[str], bool]
    before: bool
    left: int = 1

    def now(self, what: str, before: bool) -> None:
        if self.left and before is self.before and self.fits(what):
            self.left -= 1
            raise Crash(what)


@dataclass
class CrashingBus(Bus):
    crash: Once = field(kw_only=True)

    async def publish(
        self, subject: str, payload: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
    ) -> int:
        self.crash.now(subject, before=True)
        sequence = await super().publish(subject, payload, msg_id=msg_id, headers=headers)
        self.crash.now(subject, before=False)
        return sequence


class CrashingGroups(Groups):
    crash: Once

    async def arrive(self, group: str, index: int, tally: Tally) -> Count:
        self.crash.now("arrive", before=True)
        count = await super().arrive(group, index, tally)
        self.crash.now("arrive", before=False)
        return count


def crashing(core: Core, crash: Once) -> Hops:
    groups = CrashingGroups(core.redis)
    groups.crash = crash
    return Hops(CrashingBus(core.bus.nc, core.bus.js, crash=crash), groups)


async def answers(task: Task, step: Rerank) -> Sequence[Item]:
    """Item 1 fails; each costs the same."""
    return [
        msgspec.structs.replace(
            item, usage=COST, answer=Answer(f"{task.id} at {time.monotonic()}"),
            failure=Failure("unanswerable", "no passage says", "rerank") if item.n == 1 else None,
        )
        for item in task.items
    ]  # fmt: skip


POINTS = {
    "before the result is written": Once(lambda what: what.startswith("results."), before=True),
    "after the result is written": Once(lambda what: what.startswith("results."), before=False),
    "before it is counted": Once(lambda what: what == "arrive", before=True),
    "after it is counted": Once(lambda what: what == "arrive", before=False),
    "before the join is published": Once(lambda what: what.startswith("work.route"), before=True),
    "after the join is published": Once(lambda what: what.startswith("work.route"), before=False),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_anywhere_changes_nothing(core: Core, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_BACKOFF_S", 0.2)
    crash = Once(POINTS[point].fits, POINTS[point].before)
    await core.route()
    await core.rerank(answers, hops=crashing(core, crash))
    await core.start_job([Rerank()], [[question(0), question(1)]])
    await expect_one_of_everything(core, shards=1, items=2)
    assert crash.left == 0
    assert len(await hops_of(core, "rerank")) == 2  # the step itself was taken twice


async def test_a_lost_acknowledgement_changes_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    done, lost = Delivery.done, 0

    async def loses_the_first(delivery: Delivery) -> None:
        nonlocal lost
        if delivery.attempt == 1 and "rerank" in delivery.message.subject:
            lost += 1
            return
        await done(delivery)

    monkeypatch.setattr(Delivery, "done", loses_the_first)
    await core.route()
    await core.rerank(answers, RerankSettings(ack_wait_s=0.5))
    await core.start_job([Rerank()], [[question(0), question(1)]])
    await core.report()
    await eventually(lambda: _empty(core))
    await expect_one_of_everything(core, shards=1, items=2)
    assert lost == 1


async def test_a_crash_of_the_join_changes_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_BACKOFF_S", 0.2)
    crash = Once(lambda what: what.endswith(".done"), before=False)
    await core.route(crashing(core, crash))
    await core.rerank(answers)
    await core.start_job([Rerank()], [[question(0), question(1)]])
    await core.report()
    await eventually(lambda: _empty(core))
    assert crash.left == 0
    assert len(await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", "done"))) == 1


async def test_a_join_that_comes_twice_goes_on_once(core: Core) -> None:
    await core.route()
    await core.rerank(answers)
    (task,) = await core.start_job([Rerank()], [[question(0), question(1)]])
    await core.report()
    await eventually(lambda: _empty(core))
    for _ in range(2):  # under no message id: as if the dedupe window were over
        await core.bus.publish(subjects.work(_join(task).steps[0], "interactive"), msgspec.msgpack.encode(_join(task)))
    await eventually(lambda: _empty(core))
    await expect_one_of_everything(core, shards=1, items=2)


async def test_duplicates_are_counted_once_where_incr_would_count_them_each_time(core: Core) -> None:
    tasks = await core.start_job([Rerank()], [[question(n)] for n in range(3)])
    done = [msgspec.structs.replace(task, items=list(await answers(task, Rerank())), steps=[]) for task in tasks]
    for task in done[:2]:
        for _ in range(3):
            await core.hops.arrive(task, {})
            await core.redis.incr("bare counter")
    totals = await core.hops.groups.totals(core.group())
    assert (totals.count, totals.tally) == (Count(2, 3), Tally(1, 1, COST + COST, {"unanswerable": 1}))
    assert totals.failed_indices == [1]
    assert await core.redis.get("bare counter") == b"6"  # a chord counter would have joined a group of 3 twice over
    assert await core.count(WORK.name) == 3  # the tasks; no join yet


async def test_two_workers_with_the_same_shard_at_the_same_time_have_one_effect(core: Core) -> None:
    await core.route()
    (task,) = await core.start_job([Rerank()], [[question(0), question(1)]])
    done = [msgspec.structs.replace(task, items=list(await answers(task, Rerank())), steps=[]) for _ in range(8)]
    await asyncio.gather(*(core.hops.arrive(each, {}) for each in done))
    report = await core.report()
    assert (report.size, report.succeeded, report.failed, report.usage) == (2, 1, 1, COST + COST)


async def test_a_result_that_is_there_already_counts_with_its_numbers(core: Core) -> None:
    await core.route()
    (task,) = await core.start_job([Rerank()], [[question(0)]], reply="answer.here")
    replies = await core.bus.nc.subscribe("answer.here")
    cheap, dear = (msgspec.structs.replace(task, steps=[], items=[question(0, text)]) for text in ("first", "second"))
    dear = msgspec.structs.replace(dear, items=[msgspec.structs.replace(dear.items[0], usage=COST)])
    crash = Once(lambda what: what == "arrive", before=True)
    with pytest.raises(Crash):
        await crashing(core, crash).arrive(cheap, {})
    await core.hops.arrive(dear, {})
    report = await core.report()
    assert (report.succeeded, report.usage) == (1, Usage())
    assert (await core.shard()).items[0].question == "first"
    for _ in range(2):  # whoever asked is told what is stored, also by the second
        answer = msgspec.json.decode((await replies.next_msg(2)).data, type=ItemResult)
        assert (answer.question, answer.job) == ("first", "j1")


async def test_redis_loses_everything_in_the_middle_of_a_job(core: Core) -> None:
    await core.route()
    gate = asyncio.Event()

    async def second_half_waits(task: Task, step: Rerank) -> Sequence[Item]:
        if task.index >= 10:
            await gate.wait()
        return await answers(task, step)

    await core.rerank(second_half_waits, RerankSettings(interactive_slots=20))
    await core.start_job([Rerank()], [[question(n)] for n in range(20)])
    await eventually(lambda: _arrived(core, 10))
    await core.redis.flushall()
    gate.set()
    await expect_one_of_everything(core, shards=20, items=20)


async def test_redis_loses_everything_before_the_last_arrival_is_counted(core: Core) -> None:
    tasks = await core.start_job([Rerank()], [[question(n)] for n in range(3)])
    for task in tasks[:2]:
        await core.hops.arrive(msgspec.structs.replace(task, items=list(await answers(task, Rerank()))), {})
    await core.redis.flushall()
    last = tasks[2]
    await core.hops.arrive(msgspec.structs.replace(last, items=list(await answers(last, Rerank()))), {})
    totals = await core.hops.groups.totals(core.group())
    assert (totals.count, totals.tally) == (Count(3, 3), Tally(2, 1, COST + COST + COST, {"unanswerable": 1}))
    await core.route()
    assert (await core.report()).size == 3


async def test_redis_forgets_between_the_last_arrival_and_the_report(core: Core) -> None:
    tasks = await core.start_job([Rerank()], [[question(n)] for n in range(3)])
    for task in tasks:
        await core.hops.arrive(msgspec.structs.replace(task, items=list(await answers(task, Rerank()))), {})
    await core.redis.flushall()
    await core.route()
    report = await core.report()
    assert (report.size, report.succeeded, report.failed, report.shards) == (3, 2, 1, 3)
    assert report.reasons == {"unanswerable": 1}


async def test_a_late_child_of_a_group_that_has_gone_on_changes_nothing(core: Core) -> None:
    await core.route()
    await core.rerank(answers)
    (task,) = await core.start_job([Rerank()], [[question(0), question(1)]])
    await core.report()
    await eventually(lambda: _empty(core))
    await core.hops.arrive(msgspec.structs.replace(task, steps=[]), {})
    await eventually(lambda: _empty(core))
    await expect_one_of_everything(core, shards=1, items=2)
    assert await core.redis.keys("group:*") == []


async def expect_one_of_everything(core: Core, shards: int, items: int) -> None:
    report = await core.report()
    assert (report.state, report.size, report.shards) == ("done", items, shards)
    assert (report.succeeded, report.failed, report.reasons) == (items - 1, 1, {"unanswerable": 1})
    assert report.usage.calls == items
    assert report.usage.cost_usd == pytest.approx(0.25 * items)
    await eventually(lambda: _empty(core))
    for shard in range(shards):
        (stored,) = await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", shard))
        assert msgspec.json.decode(stored, type=ShardResult).shard == shard
    assert len(await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", "done"))) == 1
    assert len(await hops_of(core, "report")) == 1


async def hops_of(core: Core, step: str) -> list[Hop]:
    records = await core.messages(EVENTS.name, subjects.events(core.tenant, "j1"))
    return [hop for hop in (msgspec.json.decode(record, type=Hop) for record in records) if hop.step == step]


def _join(task: Task) -> Task:
    return msgspec.structs.replace(task, id=f"{task.group}/join", items=[], steps=[Join(task.group)])


async def _empty(core: Core) -> bool:
    return await core.count(WORK.name) == 0


async def _arrived(core: Core, children: int) -> bool:
    return (await core.hops.groups.totals(core.group())).count.arrived == children
