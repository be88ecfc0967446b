"""Alarms: a group whose child never returns, a count that Redis has lost, and what is left in ALARMS."""

import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from in_process import Core, eventually, open_core, question
from servers import NatsServer

from contracts import subjects
from contracts.item import Answer, Item
from contracts.job import ItemResult
from contracts.steps import Decide, Generate, Report, Rerank, Scatter
from contracts.subjects import ALARMS, GROUPS
from contracts.task import Arrival, Parked, Task
from services.route.domain.pattern import Pattern
from shared.hops import LATE

pytestmark = pytest.mark.servers


@pytest.fixture
async def hasty(nats_server: NatsServer, redis_server: str) -> AsyncIterator[Core]:
    """Looks after its groups each second."""
    async with open_core(nats_server.url, redis_server, check_s=1.0) as opened:
        yield opened


async def passes(task: Task, step: Rerank) -> Sequence[Item]:
    return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]


async def test_a_child_that_never_returns_fails_when_the_deadline_has_passed(core: Core) -> None:
    await core.route()
    await core.rerank(passes)
    deadline = time.time() + 1
    replies = await core.bus.nc.subscribe("asker")
    shards = [[question(0), question(1)], [question(2)]]
    tasks = await core.start_job([Rerank(), Generate(model="nobody")], shards, deadline=deadline, reply="asker")
    await core.hops.arrive(msgspec.structs.replace(tasks[1], steps=[]), {})
    report = await core.report()
    assert time.time() >= deadline
    assert (report.state, report.succeeded, report.failed) == ("expired", 1, 2)
    assert report.reasons == {"deadline_exceeded": 2}
    assert [failure.n for failure in report.failures] == [0, 1]
    first, second = [msgspec.json.decode((await replies.next_msg(2)).data, type=ItemResult) for _ in range(2)]
    assert (first.failure, second.failure.code if second.failure else "") == (None, "deadline_exceeded")


async def test_a_branch_that_never_returns_fails_its_own_items_and_the_shard_is_late(core: Core) -> None:
    def way(item: Item, options: object) -> list[Rerank | Generate]:
        return [Generate(model="nobody")] if item.n == 0 else [Rerank()]

    await core.route(pattern=Pattern("p", "p", open=lambda options: [], decide=way))  # type: ignore[arg-type]  # both are AnyStep
    await core.rerank(passes)
    await core.start_job([Decide()], [[question(n) for n in range(3)]], deadline=time.time() + 1)
    report = await core.report()
    assert (report.state, report.reasons) == ("expired", {"deadline_exceeded": 3})
    group = f"{core.group()}/0/0"
    returned = [msgspec.msgpack.decode(data, type=Arrival) for data in await core.messages(GROUPS.name, "groups.*.*")]
    by_index = {arrival.index: [(item.n, item.failure) for item in arrival.items] for arrival in returned}
    assert {arrival.group for arrival in returned} == {group}
    assert by_index == {0: [(0, LATE)], 1: [(1, None), (2, None)]}


async def test_the_samples_that_came_back_in_time_keep_their_places(core: Core) -> None:
    """Two of three samples return; then the alarm goes off, and the one in the middle arrives as failed."""
    await core.route()
    (task,) = await core.start_job(
        [Scatter([Generate(model="nobody")], n=3)], [[question(0)]], deadline=time.time() + 2
    )
    group = f"{task.id}/0"
    await eventually(lambda: _is_parked(core, group))
    for k in (0, 2):
        done = msgspec.structs.replace(question(0), part=k, answer=Answer(f"sample {k}"))
        child = msgspec.structs.replace(task, id=f"{group}/{k}", group=group, index=k, items=[done], steps=[])
        await core.hops.arrive(child, {})
    assert (await core.report()).reasons == {"deadline_exceeded": 1}
    await eventually(lambda: _has_arrived(core, group, 1))  # both alarms go off at once, the job's may be first
    (missing,) = await core.messages(GROUPS.name, subjects.arrival(group, 1))
    items = msgspec.msgpack.decode(missing, type=Arrival).items
    assert [(item.n, item.part, item.failure) for item in items] == [(0, 1, LATE)]


async def test_an_alarm_for_a_finished_group_does_nothing_and_nothing_stays(core: Core) -> None:
    await core.route()
    await core.rerank(passes)
    await core.start_job([Rerank()], [[question(0)]], deadline=time.time() + 1)
    report = await core.report()
    assert report.succeeded == 1
    assert await core.count(ALARMS.name) == 1  # the schedule
    await eventually(lambda: _no_alarms(core))
    assert await core.report() == report
    assert await core.dead() == []


async def test_scheduling_again_replaces_the_schedule(core: Core) -> None:
    parked = await _park(core)
    for _ in range(3):
        await core.hops.open_group(core.group(), parked)
    assert await core.count(ALARMS.name) == 1


async def test_a_count_that_redis_has_lost_is_found_long_before_the_deadline(hasty: Core) -> None:
    """Redis comes back without its last second: the bit of a child that is long acknowledged is missing."""
    tasks = await hasty.start_job([Rerank()], [[question(n)] for n in range(3)], deadline=time.time() + 3600)
    done = [msgspec.structs.replace(task, steps=[]) for task in tasks]
    await hasty.hops.arrive(done[0], {})
    snapshot = {key: await hasty.redis.dump(key) for key in await hasty.redis.keys("group:*")}
    await hasty.hops.arrive(done[1], {})
    for key, value in snapshot.items():
        assert value is not None
        await hasty.redis.restore(key, 0, value, replace=True)
    await hasty.hops.arrive(done[2], {})
    assert (await hasty.hops.groups.totals(hasty.group())).count.arrived == 2
    await hasty.route(hasty.hops)
    report = await hasty.report()
    assert (report.state, report.succeeded, report.size) == ("done", 3, 3)


async def test_a_group_that_takes_long_is_looked_at_again_and_again(hasty: Core) -> None:
    await hasty.route(hasty.hops)
    (task,) = await hasty.start_job([Rerank()], [[question(0)]], deadline=time.time() + 3600)
    first = (await hasty.bus.js.stream_info(ALARMS.name)).state.last_seq

    async def looked_at_and_scheduled_again() -> bool:
        return (await hasty.bus.js.stream_info(ALARMS.name)).state.last_seq >= first + 2

    await eventually(looked_at_and_scheduled_again)
    assert await hasty.hops.parked(hasty.group()) is not None
    await hasty.hops.arrive(msgspec.structs.replace(task, steps=[]), {})
    assert (await hasty.report()).succeeded == 1


async def test_a_group_opened_after_its_deadline_has_an_alarm_too(core: Core) -> None:
    await core.route()
    parked = await _park(core)
    late = msgspec.structs.replace(parked.task, deadline=time.time() - 60)
    await core.hops.open_group(core.group(), msgspec.structs.replace(parked, task=late))
    report = await core.report()
    assert (report.state, report.failed) == ("expired", 1)


async def _park(core: Core) -> Parked:
    """A job of one item, opened, with nobody at work on it."""
    group = core.group()
    parent = Task(group, core.tenant, "j1", "p", [], [Report()], group, 0, deadline=time.time() + 60)
    parked = Parked(parent, 1, "report", items=1, shard_size=1)
    await core.hops.bus.park(group, msgspec.msgpack.encode(parked))
    return parked


async def _is_parked(core: Core, group: str) -> bool:
    return await core.hops.parked(group) is not None


async def _no_alarms(core: Core) -> bool:
    return await core.count(ALARMS.name) == 0


async def _has_arrived(core: Core, group: str, index: int) -> bool:
    return len(await core.messages(GROUPS.name, subjects.arrival(group, index))) == 1
