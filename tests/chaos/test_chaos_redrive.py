"""A redriven task takes the place of its burial, once, wherever its worker dies."""

import msgspec
import pytest
from in_process import Core, question

from chaos.group_world import Death, Life, MortalBus, MortalGroups
from contracts import subjects
from contracts.item import Answer, Failure, Item, Usage
from contracts.job import ShardResult
from contracts.steps import Rerank
from contracts.subjects import RESULTS
from contracts.task import Task
from shared.groups import Count
from shared.hops import Hops

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


def _done(task: Task, item: Item) -> Task:
    return msgspec.structs.replace(task, items=[item], steps=[])
