"""Large jobs: read from the object store line by line, opened window by window, whatever is repeated or forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from in_process import Core, Crash, GenerateSettings, eventually

from contracts import subjects
from contracts.item import Answer, Item
from contracts.job import ShardResult
from contracts.steps import Generate, Open
from contracts.subjects import WORK
from contracts.task import Cursor, Task
from services.route.adapters.lines import Lines, Place
from services.route.adapters.opener import Opener
from services.route.adapters.paces import Paces
from services.route.adapters.windows import Windows
from services.route.config import RouteSettings
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import load_prompts
from shared.groups import Count, Groups
from shared.hops import Hops
from shared.models import load_catalogue
from shared.pull import Pull
from shared.uploads import Uploads

pytestmark = pytest.mark.servers

SETTINGS = RouteSettings(shard_size=2, window_shards=4, ack_wait_s=2)
ITEMS = 41  # 21 shards, 6 windows


def lines(count: int) -> bytes:
    return b"\n".join(json.dumps({"question": f"q{n}"}).encode() for n in range(count))


class Site:
    """Route with a small window, generate, and a client that sends a job by claim."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.most_on_their_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._pull: Pull | None = None

    async def start(self, hops: Hops | None = None) -> None:
        hops = hops or self.core.hops
        patterns = load_patterns()
        windows = Windows(hops, patterns, SETTINGS)
        route = await self.core.route(hops)
        route.on(Open, windows.go_on)
        worker = self.core.worker(GenerateSettings(ack_wait_s=2), hops)
        worker.on(Generate, self._answer)
        await worker.start()
        opener = Opener(
            hops, patterns, load_prompts(), load_catalogue(None), SETTINGS, route, Paces(self.core.redis), windows
        )
        self._pull = await opener.pull()

    async def stop(self) -> None:
        if self._pull is not None:
            await self._pull.drain(1)

    async def _answer(self, task: Task, step: Generate) -> Sequence[Item]:
        await self.gate.wait()
        self.most_on_their_way = max(self.most_on_their_way, await self.core.count(WORK.name))
        return [msgspec.structs.replace(item, answer=Answer(item.question.upper())) for item in task.items]

    async def submit(self, data: bytes) -> None:
        claim = await self.core.bus.put_claim(data)
        payload = msgspec.json.encode({"job": "big", "items_claim": claim})
        await self.core.bus.js.publish(subjects.jobs(self.core.tenant, "noop"), payload)

    async def expect_all(self, items: int = ITEMS) -> None:
        report = await self.core.report("big", 15)
        assert (report.state, report.size, report.succeeded) == ("done", items, items)
        found = []
        for data in await self.core.messages("RESULTS", f"results.{self.core.tenant}.big.*"):
            result = json.loads(data)
            if "items" in result:
                found += msgspec.json.decode(data, type=ShardResult).items
        assert sorted(item.n for item in found) == list(range(items))
        assert all(item.answer and item.answer.text == f"Q{item.n}" for item in found)


@pytest.fixture
async def site(core: Core) -> AsyncIterator[Site]:
    found = Site(core)
    yield found
    await found.stop()


async def test_a_large_job_is_opened_in_windows_and_ends_with_every_item_once(site: Site) -> None:
    await site.start()
    await site.submit(lines(ITEMS))
    await site.expect_all()
    assert site.most_on_their_way <= 2 * SETTINGS.window_shards
    await eventually(lambda: _forgotten(site.core))


async def test_redis_forgets_the_mark_in_the_middle(site: Site) -> None:
    site.gate.clear()
    await site.start()
    await site.submit(lines(ITEMS))
    await eventually(lambda: _moved(site.core, 4))
    await site.core.redis.flushall()
    site.gate.set()
    await site.expect_all()


@pytest.mark.parametrize("where", ["move_cursor", "mark"])
async def test_route_dies_between_the_actions_of_a_window(site: Site, where: str) -> None:
    crashes = [3, 5]  # calls that end with a death

    def dies() -> None:
        crashes[:] = [left - 1 for left in crashes]
        if 0 in crashes:
            raise Crash

    class Frail(Hops):
        async def move_cursor(self, group: str, cursor: Cursor | None) -> None:
            if where == "move_cursor":
                dies()
            await super().move_cursor(group, cursor)

    class FrailGroups(Groups):
        async def open(self, group: str, size: int, mark: int = 0) -> Count:
            if where == "mark" and mark:
                dies()
            return await super().open(group, size, mark)

    await site.start(Frail(site.core.bus, FrailGroups(site.core.redis)))
    await site.submit(lines(ITEMS))
    await site.expect_all()
    assert max(crashes) <= 0


async def test_a_wake_that_comes_late_changes_nothing(site: Site) -> None:
    site.gate.clear()
    await site.start()
    await site.submit(lines(ITEMS))
    await eventually(lambda: _moved(site.core, 4))
    parked = await site.core.hops.parked(site.core.group("big"))
    assert parked is not None
    await site.core.hops.forward_open(parked.task, 1, {})
    await eventually(lambda: _no_wakes(site.core))
    cursor = await site.core.hops.cursor(site.core.group("big"))
    assert cursor is not None
    assert cursor.shard == 4
    site.gate.set()
    await site.expect_all()


async def test_the_object_goes_away_in_the_middle_and_the_rest_fails_with_the_reason(site: Site) -> None:
    site.gate.clear()
    await site.start()
    data = lines(ITEMS)
    await site.submit(data)
    await eventually(lambda: _moved(site.core, 4))
    await (await site.core.bus.objects()).delete(await site.core.bus.put_claim(data))
    site.gate.set()
    report = await site.core.report("big", 15)
    assert (report.size, report.succeeded, report.failed) == (ITEMS, 8, ITEMS - 8)
    assert "no such object" in report.failures[0].reason


async def test_a_cancelled_large_job_ends_without_more_work(site: Site) -> None:
    site.gate.clear()
    await site.start()
    await site.submit(lines(ITEMS))
    await eventually(lambda: _moved(site.core, 4))
    site.core.cancels.add(site.core.tenant, "big", "")
    site.gate.set()
    report = await site.core.report("big", 15)
    assert (report.state, report.size) == ("cancelled", ITEMS)
    assert report.reasons["cancelled"] >= ITEMS - 8


@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n  \n"])
async def test_lines_are_read_over_the_borders_of_chunks_and_from_any_place(core: Core, tail: bytes) -> None:
    long = json.dumps({"question": "x" * 300_000}).encode()  # spans three chunks
    given = [json.dumps({"question": f"q{n}" * 50}).encode() for n in range(3000)]
    given[700:700] = [long]
    claim = await core.bus.put_claim(b"\n".join(given) + tail)
    assert await (await Lines.open(Uploads(core.bus, core.tenant), claim)).count() == len(given)
    found, place = [], Place()
    for count in (1, 699, 1, 5, 1500, 10_000):
        reading = await Lines.open(Uploads(core.bus, core.tenant), claim, place)
        found += await reading.take(count)
        place = reading.place
    assert found == given


async def _moved(core: Core, shard: int) -> bool:
    cursor = await core.hops.cursor(core.group("big"))
    return cursor is not None and cursor.shard == shard


async def _forgotten(core: Core) -> bool:
    group = core.group("big")
    return await core.hops.parked(group) is None and await core.hops.cursor(group) is None


async def _no_wakes(core: Core) -> bool:
    found = await core.messages(WORK.name, "work.route.*")
    return not any(isinstance(msgspec.msgpack.decode(data, type=Task).steps[0], Open) for data in found)
