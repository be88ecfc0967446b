"""Dead letters: what kills its workers is given up by the server, buried by route; a redriven task rejoins its job."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from in_process import Core, RerankSettings, eventually, question

from client.dead import letters, redrive
from contracts import subjects
from contracts.events import Advisory
from contracts.item import Answer, Failure, Item
from contracts.steps import Decide, Rerank
from contracts.subjects import ADVISORIES, RESULTS, WORK
from contracts.task import Task
from services.route.domain.pattern import Pattern
from shared.errors import Poison
from shared.outcome import Outcome
from shared.worker import SILENT

pytestmark = pytest.mark.servers

TESTS = Path(__file__).parents[1]
HASTY = RerankSettings(attempts=1, ack_wait_s=0.3)


class Shards:
    """A handler: shard 0 is poison until it is mended, shard 1 waits until it may go on."""

    def __init__(self) -> None:
        self.mended = False
        self.go_on = asyncio.Event()

    async def __call__(self, task: Task, step: Rerank) -> Sequence[Item]:
        if task.index == 0 and not self.mended:
            raise Poison("breaks an invariant")
        if task.index == 1:
            await self.go_on.wait()
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]


async def dies(task: Task, step: Rerank) -> Sequence[Item]:
    raise asyncio.CancelledError


async def test_what_is_given_up_while_route_is_away_is_buried_when_it_is_back(core: Core) -> None:
    await core.rerank(dies, HASTY)
    await core.start_job([Rerank()], [[question(0), question(1)]])
    await eventually(lambda: _holds(core, ADVISORIES.name, 1))
    assert (await core.dead(), await core.count(WORK.name)) == ([], 1)
    await core.route()
    report = await core.report()
    reason = "given up after 2 deliveries: the worker died over it each time, or never finished"
    assert [(failure.code, failure.reason) for failure in report.failures] == [("internal", reason)] * 2
    (letter,) = await core.dead()
    assert (letter.service, letter.deliveries, letter.reason) == ("rerank", SILENT, reason)
    assert msgspec.msgpack.decode(letter.payload, type=Task).id == f"{core.group()}/0"
    await eventually(lambda: _holds(core, WORK.name, 0))
    await eventually(lambda: _holds(core, ADVISORIES.name, 0))


async def test_a_task_that_kills_each_process_that_takes_it_ends_and_its_job_too(core: Core, redis_server: str) -> None:
    await core.route()
    await core.start_job([Rerank()], [[question(0)]])
    async with _restarted(core.url, redis_server, "1", "0.5") as exits:
        report = await core.report(seconds=60)
    assert (report.failed, report.reasons) == (1, {"internal": 1})
    assert exits == [9] * SILENT
    assert [letter.service for letter in await core.dead()] == ["rerank"]


async def test_an_advisory_for_a_message_that_is_gone_or_that_says_nothing_is_dropped(core: Core) -> None:
    await core.route()
    await core.bus.publish(subjects.result(core.tenant, "j1", 0), b"not to be touched")
    result = (await core.bus.js.stream_info(RESULTS.name)).state.last_seq
    gone, foreign = Advisory("WORK", "rerank-batch", 4711, 10), Advisory("RESULTS", "rerank-batch", result, 10)
    for payload in (msgspec.json.encode(gone), msgspec.json.encode(foreign), b"nonsense"):
        await core.bus.publish(subjects.given_up("rerank-batch"), payload)
    await eventually(lambda: _holds(core, ADVISORIES.name, 0))
    assert (await core.dead(), await core.count(RESULTS.name)) == ([], 1)


async def test_a_redriven_task_rejoins_a_job_that_still_waits(core: Core) -> None:
    await core.route()
    shards = Shards()
    await core.rerank(shards)
    await core.start_job([Rerank()], [[question(0), question(1)], [question(2)]])
    assert (await core.shard(0)).items[0].failure == Failure("internal", "breaks an invariant", "rerank")
    shards.mended = True
    await _redrive_all(core)
    await eventually(lambda: _succeeded(core, 0))
    shards.go_on.set()
    report = await core.report()
    assert (report.state, report.size, report.succeeded, report.failed, report.failures) == ("done", 3, 3, 0, [])
    assert report.reasons == {}
    assert len(await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", 0))) == 1


@pytest.mark.parametrize("crash", ["before the result is written", "before it is counted"])
async def test_a_crash_in_the_middle_of_rejoining_counts_nothing_twice(
    core: Core, crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await core.route()
    shards = Shards()
    await core.rerank(shards, RerankSettings(ack_wait_s=0.5))
    await core.start_job([Rerank()], [[question(0)], [question(1)]])
    await core.shard(0)
    shards.mended = True
    take_back, arrive, crashes = core.hops.groups.take_back, core.hops.groups.arrive, 0

    async def crashing(group: str, index: int, *rest: object) -> object:
        nonlocal crashes
        crashes += 1
        if crash == "before the result is written":
            found = await take_back(group, index, *rest)  # type: ignore[arg-type]  # passed on as they came
        else:
            found = None
        if crashes == 1:
            raise asyncio.CancelledError
        return found if found is not None else await arrive(group, index, *rest)  # type: ignore[arg-type]  # as above

    monkeypatch.setattr(core.hops.groups, "take_back" if "written" in crash else "arrive", crashing)
    await _redrive_all(core)
    await eventually(lambda: _succeeded(core, 0))
    await eventually(lambda: _arrived(core, 1))
    shards.go_on.set()
    report = await core.report()
    assert (report.size, report.succeeded, report.failed, report.failures) == (2, 2, 0, [])
    assert crashes > 1


async def test_a_redriven_task_of_a_job_that_has_ended_changes_nothing(core: Core) -> None:
    await core.route()
    shards = Shards()
    shards.go_on.set()
    await core.rerank(shards)
    await core.start_job([Rerank()], [[question(0)], [question(1)]])
    report = await core.report()
    before = await core.shard(0)
    shards.mended = True
    await _redrive_all(core)
    await eventually(lambda: _holds(core, WORK.name, 0))
    assert (await core.report(), await core.shard(0)) == (report, before)
    assert (report.succeeded, report.failed) == (1, 1)


async def test_a_redriven_branch_rejoins_the_scatter_inside_its_job(core: Core) -> None:
    shards = Shards()

    async def by_item(task: Task, step: Rerank) -> Sequence[Item] | Outcome:
        return await shards(msgspec.structs.replace(task, index=task.items[0].n), step)

    def way(item: Item, options: object) -> list[Rerank]:
        return [Rerank(top=item.n + 1)]

    await core.route(pattern=Pattern("p", "p", open=lambda options: [], decide=way))  # type: ignore[arg-type]  # Rerank is an AnyStep
    await core.rerank(by_item)
    await core.start_job([Decide()], [[question(0), question(1)]])
    await eventually(lambda: _letters(core, 1))
    shards.mended = True
    await _redrive_all(core)
    await eventually(lambda: _letters(core, 0))
    await eventually(lambda: _holds(core, WORK.name, 1))
    shards.go_on.set()
    report = await core.report()
    assert (report.succeeded, report.failed) == (2, 0)


@asynccontextmanager
async def _restarted(*arguments: str) -> AsyncIterator[list[int]]:
    """A process that is started again whenever it ends; gives its exit codes."""
    exits: list[int] = []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "fatal_worker", *arguments, env=environment)

    running = [await start()]

    async def keep() -> None:
        while True:
            exits.append(await running[-1].wait())
            running.append(await start())

    keeper = asyncio.create_task(keep())
    try:
        yield exits
    finally:
        keeper.cancel()
        if running[-1].returncode is None:
            running[-1].kill()
            await running[-1].wait()


async def _redrive_all(core: Core) -> None:
    for found in [found async for found in letters(core.bus)]:
        await redrive(core.bus, found)


async def _letters(core: Core, number: int) -> bool:
    return len(await core.dead()) == number


async def _holds(core: Core, stream: str, messages: int) -> bool:
    return await core.count(stream) == messages


async def _succeeded(core: Core, index: int) -> bool:
    return all(item.failure is None for item in (await core.shard(index)).items)


async def _arrived(core: Core, children: int) -> bool:
    return await core.redis.hget("group:{" + core.group() + "}", "arrived") == str(children).encode()
