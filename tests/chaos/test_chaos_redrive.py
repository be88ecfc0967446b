"""A redriven task takes the place of its burial, once, wherever its worker dies."""

import asyncio

import msgspec
import pytest
from in_process import Core, question

from chaos.group_world import Death, Life, MortalBus, MortalGroups
from contracts import subjects
from contracts.item import Answer, Failure, Item, Usage
from contracts.job import ShardResult
from contracts.steps import Rerank
from contracts.subjects import RESULTS, WORK
from contracts.task import Tally, Task
from loadtest.chaos.verdict import Found, verdict
from shared.groups import Count, Groups
from shared.hops import Hops
from shared.recount import recount

pytestmark = pytest.mark.servers

COST = Usage(prompt_tokens=10, completion_tokens=3, calls=1, cost_usd=0.25)


@pytest.mark.parametrize("left", range(6))
async def test_a_death_at_any_point_leaves_one_result_and_one_count(core: Core, left: int) -> None:
    tasks = await core.start_job([Rerank()], [[question(0)], [question(1)]])
    buried = Item(n=0, failure=Failure("internal", "given up", "rerank"), usage=COST)
    await core.hops.arrive(_done(tasks[0], buried), {}, buried=True)
    assert (await core.hops.groups.totals(core.group())).tally.reasons == {"internal": 1}

    redriven = _done(tasks[0], msgspec.structs.replace(question(0), answer=Answer("fine"), usage=COST + COST))
    life = Life(left)
    groups = MortalGroups(core.redis)
    groups.life = life
    with pytest.raises(Death):
        await Hops(MortalBus(core.bus.nc, core.bus.js, life=life), groups).arrive(redriven, {})
    await core.hops.arrive(redriven, {})

    (stored,) = await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", 0))
    assert msgspec.json.decode(stored, type=ShardResult).items[0].answer == Answer("fine")
    totals = await core.hops.groups.totals(core.group())
    assert (totals.count, totals.tally.succeeded, totals.tally.failed) == (Count(1, 2), 1, 0)
    assert totals.tally.usage == COST + COST
    assert not any(totals.tally.reasons.values())
    assert totals.failed_indices == []


@pytest.mark.parametrize("first", ["the new result", "the report"])
async def test_a_recount_between_taking_back_and_writing_over(core: Core, first: str) -> None:
    """The recount counts the burial again, which completes the job. Whichever comes first then, the report or the new
    result, what is stored and what is reported are the same."""
    tasks = await core.start_job([Rerank()], [[question(0)], [question(1)]])
    await core.bus.js.purge_stream(WORK.name)
    buried = Item(n=0, failure=Failure("internal", "given up", "rerank"), usage=COST)
    await core.hops.arrive(_done(tasks[0], buried), {}, buried=True)
    other = msgspec.structs.replace(question(1), answer=Answer("fine"), usage=COST)
    mended = msgspec.structs.replace(question(0), answer=Answer("fine"), usage=COST + COST)
    taken_back, go_on = asyncio.Event(), asyncio.Event()

    class Halting(Groups):
        async def take_back(self, group: str, index: int, tally: Tally) -> bool:
            found = await super().take_back(group, index, tally)
            taken_back.set()
            await go_on.wait()
            return found

    redriven = asyncio.create_task(Hops(core.bus, Halting(core.redis)).arrive(_done(tasks[0], mended), {}))
    await taken_back.wait()
    await core.hops.arrive(_done(tasks[1], other), {})
    parked = await core.hops.parked(core.group())
    assert parked is not None
    found = await recount(core.bus, core.hops.groups, core.group(), parked)
    assert found.count.complete
    if first == "the new result":
        go_on.set()
        await redriven
    await core.hops.forward_join(parked.task, {})
    await core.route()
    report = await core.report()
    go_on.set()
    await redriven

    shards = [await core.shard(index) for index in range(2)]
    counts = (await core.bus.js.stream_info(RESULTS.name, subjects_filter=f"results.{core.tenant}.j1.*")).state.subjects
    places = {subject.rpartition(".")[2]: times for subject, times in (counts or {}).items()}
    assert verdict(2, Found(report, shards, places)).faults == []
    assert report.succeeded == (2 if first == "the new result" else 1)


def _done(task: Task, item: Item) -> Task:
    return msgspec.structs.replace(task, items=[item], steps=[])
