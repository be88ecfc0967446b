"""Redis forgets: route notices by itself, long before any alarm, and the job ends."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from in_process import Core, eventually, question
from redis.asyncio import Redis
from servers import start_redis

from contracts.item import Answer
from contracts.steps import Rerank
from contracts.task import Task
from services.route.adapters.redis_watch import COUNTED, COUNTING, RedisWatch
from shared.groups import Count

pytestmark = pytest.mark.servers


async def arrive(core: Core, tasks: list[Task]) -> None:
    for task in tasks:
        items = [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]
        await core.hops.arrive(msgspec.structs.replace(task, items=items, steps=[]), {})


async def test_bits_that_redis_has_lost_are_set_again_and_the_job_ends(core: Core) -> None:
    """The last child arrives, but Redis has come back without the second one's bit: nobody sees that all are there."""
    watch = RedisWatch(core.hops, core.redis)
    assert await watch.look()
    assert not await watch.look()
    tasks = await core.start_job([Rerank()], [[question(n)] for n in range(3)], deadline=time.time() + 3600)
    await arrive(core, tasks[:1])
    snapshot = {key: await core.redis.dump(key) for key in await core.redis.keys("group:*")}
    await arrive(core, tasks[1:2])
    for key, value in snapshot.items():
        assert value is not None
        await core.redis.restore(key, 0, value, replace=True)
    await core.redis.set(COUNTED, "the run of the server before")  # as after a restart
    await arrive(core, tasks[2:])
    assert (await core.hops.groups.totals(core.group())).count == Count(2, 3)
    await core.route()
    assert await watch.look()
    report = await core.report()
    assert (report.size, report.succeeded, report.shards) == (3, 3, 3)


async def test_an_emptied_redis_is_noticed_also_when_nothing_arrives_any_more(core: Core) -> None:
    watch = RedisWatch(core.hops, core.redis, every_s=0.1)
    await core.route()
    tasks = await core.start_job([Rerank()], [[question(n)] for n in range(2)], deadline=time.time() + 3600)
    running = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: _counted(core))
        await arrive(core, tasks[:1])
        await core.redis.flushall()
        await eventually(lambda: _counted(core))
        assert (await core.hops.groups.totals(core.group())).count == Count(1, 2)
    finally:
        running.cancel()


async def test_a_redis_that_is_emptied_while_groups_are_counted_is_counted_once_more(core: Core) -> None:
    class Emptied(RedisWatch):
        async def _waiting(self) -> list[str]:
            found = await super()._waiting()
            await self.redis.flushall()
            return found

    assert await Emptied(core.hops, core.redis).look()
    assert await core.redis.get(COUNTED) is None
    assert await RedisWatch(core.hops, core.redis).look()
    assert await core.redis.get(COUNTED) is not None
    assert await core.redis.get(COUNTING) is not None


async def test_another_run_of_the_server_is_told_from_the_one_before(core: Core, tmp_path: Path) -> None:
    """Its log may have brought the key back, but it names the run that wrote it."""
    assert await RedisWatch(core.hops, core.redis).look()
    before = await core.redis.get(COUNTED)
    with start_redis(tmp_path) as url:
        async with Redis.from_url(url) as again:
            await again.set(COUNTED, before or "")
            assert await RedisWatch(core.hops, again).look()
            assert not await RedisWatch(core.hops, again).look()


async def _counted(core: Core) -> bool:
    return await core.redis.get(COUNTED) is not None
