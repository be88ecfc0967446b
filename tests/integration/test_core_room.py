"""A WORK stream that is much too small for what is asked of it: everything waits for a place, and everything ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from in_process import Core, JudgeSettings, RerankSettings, eventually

from client.dead import letters, redrive
from contracts import subjects
from contracts.item import Answer, Failure, Item
from contracts.job import Job, Lane, Options, ShardResult
from contracts.steps import AnyStep, Judge, Open, Rerank, Scatter, Step
from contracts.subjects import WORK
from contracts.task import DeadLetter, Task
from loadtest.chaos.verdict import Found, verdict
from services.route.adapters.opener import Opener
from services.route.adapters.paces import Paces
from services.route.adapters.windows import Windows
from services.route.config import RouteSettings
from services.route.domain.pattern import Pattern, nothing_needed
from services.route.domain.patterns import Patterns
from services.route.domain.prompts import load_prompts
from shared import room
from shared.bus import Bus
from shared.errors import Later, QueueFull
from shared.groups import Groups
from shared.hops import Hops
from shared.models import load_catalogue
from shared.pull import Pull
from shared.room import OPENING, SCATTERING, SHARES, Room, lane_of, limit

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

PLACES = 32
SETTINGS = RouteSettings(shard_size=2, window_shards=8, ack_wait_s=2)
SLIPS: dict[str, list[AnyStep]] = {
    "plain": [Rerank(), Judge(), Rerank(), Judge()],
    "scatter": [Rerank(), Scatter([Rerank(), Judge()], n=5), Judge()],
    "one large scatter": [Scatter([Rerank(), Judge()], n=40), Judge()],
    "a scatter in a scatter": [Scatter([Rerank(), Scatter([Judge()], n=4), Rerank()], n=4), Judge()],
}


@pytest.fixture(autouse=True)
async def small(core: Core, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """As many places as PLACES, and nobody waits for long."""
    monkeypatch.setattr(room, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(room, "_LOOK_S", 0.02)
    monkeypatch.setattr(room, "BUSY_S", 0.1)
    await limited(core, PLACES)
    yield
    await core.bus.ensure()


async def limited(core: Core, messages: int) -> None:
    config = (await core.bus.js.stream_info(WORK.name)).config
    await core.bus.js.update_stream(config.evolve(max_msgs=messages))


class Site:
    """Route with its opener, rerank and judge: services as they are, on a stream that is too small for them."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.most = 0
        self.seen: list[str] = []
        self._pulls: list[Pull] = []

    async def start(self) -> None:
        """Each service has its own view of the room, and few slots."""
        pattern = Pattern("small", "of this test", lambda options: SLIPS[options.prompt], nothing_needed)
        patterns = Patterns({"small": pattern})
        hops = self.hops()
        windows = Windows(hops, patterns, SETTINGS)
        route = await self.core.route(hops, pattern)
        route.on(Open, windows.go_on)
        for settings, step in (
            (RerankSettings(ack_wait_s=30, batch_slots=2), Rerank),
            (JudgeSettings(ack_wait_s=30), Judge),  # a machine that stands still for two seconds sends nothing twice
        ):
            worker = self.core.worker(settings, self.hops())
            worker.on(step, self.passes)
            await worker.start()
        opener = Opener(
            hops, patterns, load_prompts(), load_catalogue(None), SETTINGS, route, Paces(self.core.redis), windows
        )
        self._pulls.append(await opener.pull())

    def hops(self) -> Hops:
        return Hops(Bus.on(self.core.bus.nc, patient=True), Groups(self.core.redis))

    async def stop(self) -> None:
        for pull in self._pulls:
            await pull.drain(1)

    async def passes(self, task: Task, step: Step) -> Sequence[Item]:
        self.seen.append(f"{task.id}.{task.hop}")
        self.most = max(self.most, await self.core.count(WORK.name))
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]

    async def submit(self, slip: str, items: int, job: str, lane: Lane = "batch", claim: str = "") -> None:
        """`claim`: the items lie in the object store, so the job is opened in windows."""
        questions = [] if claim else [msgspec.Raw(b'{"question":"q%d"}' % n) for n in range(items)]
        body = Job(items=questions, items_claim=claim, job=job, lane=lane, options=Options(prompt=slip))
        await self.core.bus.js.publish(subjects.jobs(self.core.tenant, "small"), msgspec.json.encode(body))

    async def expect(self, job: str, items: int) -> None:
        report = await self.core.report(job, 200)
        stored = await self.core.messages("RESULTS", subjects.result(self.core.tenant, job, "*"))
        shards = [msgspec.json.decode(data, type=ShardResult) for data in stored if b'"shard":' in data]
        assert verdict(items, Found(report, shards, {})).faults == []
        assert (report.succeeded, report.failed) == (items, 0)


@pytest.fixture
async def site(core: Core, small: None) -> AsyncIterator[Site]:
    found = Site(core)
    await found.start()
    yield found
    await found.stop()


@pytest.mark.parametrize("slip", list(SLIPS))
async def test_more_than_fits_ends_all_the_same(core: Core, site: Site, slip: str) -> None:
    """Three jobs, each of more shards or children than the stream has places, and people who wait beside them."""
    for number in range(3):
        await site.submit(slip, 24, f"b{number}")
        await site.submit(slip, 2, f"i{number}", lane="interactive")
    for number in range(3):
        await site.expect(f"i{number}", 2)
    for number in range(3):
        await site.expect(f"b{number}", 24)
    assert site.most <= PLACES
    assert len(site.seen) == len(set(site.seen))  # nobody was sent twice for want of room
    assert await core.dead() == []
    await eventually(lambda: _empty(core), 60)


async def test_a_job_in_windows_waits_for_room_too(core: Core, site: Site) -> None:
    lines = b"\n".join(b'{"question":"q%d"}' % n for n in range(80))
    claim = await core.bus.put_claim(lines)
    for number in range(2):
        await site.submit("scatter", 80, f"w{number}", claim=claim)
    for number in range(2):
        await site.expect(f"w{number}", 80)
    assert await core.dead() == []


async def test_redis_forgets_how_many_are_out(core: Core, site: Site) -> None:
    """They are published again, dropped by the stream or run twice, and arrive once."""
    await site.submit("one large scatter", 4, "forgotten")
    await eventually(lambda: _some(site))
    await core.redis.flushdb()
    await site.expect("forgotten", 4)


async def test_people_who_wait_have_places_of_their_own(core: Core) -> None:
    for n in range(PLACES):
        if await _refused(Room(core.bus), "batch"):
            break
        await core.bus.publish("work.nobody.batch", b"%d" % n)
    assert await core.count(WORK.name) == int(PLACES * SHARES["batch"] * OPENING)
    room_ = Room(core.bus)
    await room_.check("interactive")
    with pytest.raises(QueueFull, match="too many tasks are under way; the job waits"):
        await room_.check("batch")
    async with room_.places("batch", 1, 100) as free:
        assert free >= 1


async def test_processes_that_look_at_the_same_moment_do_not_fill_it(core: Core) -> None:
    """What hops need stays free, although each of many processes lets in what it thinks there is room for."""
    rooms = [Room(core.bus) for _ in range(8)]

    async def fill(one: Room, depth: int) -> None:
        while True:
            try:
                async with one.places("batch", depth, 5) as free:
                    for _ in range(free):
                        await core.bus.publish("work.nobody.batch", b"x")
            except Later:
                return

    await asyncio.gather(*(fill(one, 0) for one in rooms))
    opened = await core.count(WORK.name)
    await asyncio.gather(*(fill(one, 9) for one in rooms))
    assert opened < await core.count(WORK.name) < PLACES


def test_each_level_has_places_that_the_one_above_cannot_take() -> None:
    for capacity in (8, 24, 2048, 6144):
        limits = [limit(capacity, depth) for depth in range(4)]
        assert limits == sorted(set(limits))
    assert limit(6144, 30) < 6144
    assert SCATTERING < 1
    assert sum(SHARES.values()) == 1


def test_the_lane_of_a_subject() -> None:
    found = [
        lane_of(subject) for subject in ("work.route.batch", "work.generate.m.interactive.r1", "work.x.y", "alarms.a")
    ]
    assert found == ["batch", "interactive", None, None]


async def test_a_dead_letter_waits_for_room_too(core: Core) -> None:
    await core.bus.publish("dead.rerank", msgspec.msgpack.encode(_letter()))
    (letter,) = [one async for one in letters(core.bus)]
    await limited(core, 2)
    await core.bus.publish("work.nobody.batch", b"in the way")
    with pytest.raises(QueueFull):
        await redrive(core.bus, letter)
    await core.bus.js.purge_stream(WORK.name)
    await redrive(core.bus, letter)
    assert await core.messages(WORK.name, "work.rerank.batch") == [b"task"]


def _letter() -> DeadLetter:
    failure = Failure("internal", "given up", "rerank")
    return DeadLetter("rerank", "work.rerank.batch", "given up", failure, b"task")


async def _refused(one: Room, lane: Lane) -> bool:
    try:
        await one.check(lane)
    except QueueFull:
        return True
    return False


async def _empty(core: Core) -> bool:
    return await core.count(WORK.name) == 0


async def _some(site: Site) -> bool:
    return len(site.seen) > 10
