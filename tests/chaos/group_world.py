"""A small Penstock whose every move a test makes by hand: who works on which message, and where it dies.

Streams and Redis are real, so are the workers' code and route's; only the pull loop is the test's. A message is read
from WORK, carried out by the real worker, and deleted from WORK as an acknowledgement would.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import msgspec
from in_process import Core, RerankSettings, RouteSettings
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.item import Answer, Failure, Item, Usage
from contracts.job import Job, JobReport, ShardResult
from contracts.steps import AnyStep, Expire, Join, Open, Report, Rerank, Scatter
from contracts.subjects import PARKED, RESULTS, WORK
from contracts.task import Tally, Task
from loadtest.chaos.verdict import Found
from services.route import config, handlers
from services.route.adapters.paces import Paces
from services.route.adapters.redis_watch import COUNTED, RedisWatch
from services.route.adapters.reports import Reports
from services.route.adapters.windows import Windows
from services.route.domain.pattern import Pattern, nothing_needed
from services.route.domain.patterns import Patterns
from services.route.domain.submission import Deadlines, Opening, Sizes, Submission, open_job
from shared.bury import Lost, bury
from shared.bus import Bus
from shared.delivery import Delivery
from shared.groups import Count, Groups
from shared.hops import Hops
from shared.worker import Worker

SHARD = 2
COST = Usage(prompt_tokens=7, completion_tokens=3, calls=1, cost_usd=0.125)
JOB = "j1"


class Death(BaseException):
    """kill -9: nothing after it runs, and nobody catches it."""


@dataclass
class Stall:
    """Somebody who stands still after so many sides of effects, until the others have gone on without him."""

    left: int
    waits: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


NOW: ContextVar[float | None] = ContextVar("NOW", default=None)
"""What time it is for whoever an alarm wakes."""


def clock(real: Callable[[], float] = time.time) -> float:
    """In the place of time.time."""
    now = NOW.get()
    return real() if now is None else now


STALL: ContextVar[Stall | None] = ContextVar("STALL", default=None)


@dataclass
class Life:
    """How many sides of effects are left until death; None: for ever. Each effect has two: before and after."""

    left: int | None = None

    async def step(self) -> None:
        if (stall := STALL.get()) is not None:
            if stall.left == 0:
                stall.waits = True
                await stall.go_on.wait()
            stall.left = max(0, stall.left - 1)
        elif self.left is not None:
            if self.left == 0:
                raise Death
            self.left -= 1


@dataclass
class MortalBus(Bus):
    life: Life = field(kw_only=True)

    async def publish(
        self, subject: str, payload: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
    ) -> int:
        await self.life.step()
        sequence = await super().publish(subject, payload, msg_id=msg_id, headers=headers)
        await self.life.step()
        return sequence


class MortalGroups(Groups):
    life: Life

    async def open(self, group: str, size: int, mark: int = 0) -> Count:
        await self.life.step()
        count = await super().open(group, size, mark)
        await self.life.step()
        return count

    async def arrive(self, group: str, index: int, tally: Tally) -> Count:
        await self.life.step()
        count = await super().arrive(group, index, tally)
        await self.life.step()
        return count

    async def take_back(self, group: str, index: int, tally: Tally) -> bool:
        await self.life.step()
        taken = await super().take_back(group, index, tally)
        await self.life.step()
        return taken

    async def forget(self, group: str) -> None:
        await self.life.step()
        await super().forget(group)
        await self.life.step()


class BareGroups(MortalGroups):
    """The planted bug: a chord counter. Each arrival adds one, whether or not it has arrived before."""

    async def arrive(self, group: str, index: int, tally: Tally) -> Count:
        key = f"group:{{{group}}}"
        if not await self._redis.hget(key, "size"):
            return Count(0, 0)
        await self._redis.delete(f"{key}:bits")  # what makes an arrival count once
        return await super().arrive(group, index, tally)


class Unsettled(Delivery):
    """The test settles its messages itself."""

    async def done(self) -> None:
        """Not here: the test may lose the acknowledgement."""


@dataclass
class World:
    """One job in a world that is empty otherwise."""

    core: Core
    tenant: str
    items: int
    samples: int  # 0: no scatter in the job's slip
    windowed: bool
    groups: type[MortalGroups] = MortalGroups
    life: Life = field(default_factory=Life)
    submitted: bool = False
    hand: dict[int, bytes] = field(default_factory=dict)  # messages of WORK by their sequence
    done: list[bytes] = field(default_factory=list)  # tasks that were carried out
    buried: list[bytes] = field(default_factory=list)
    snapshot: dict[bytes, bytes] | None = None
    stalled: tuple[Stall, asyncio.Task[None]] | None = None
    overdue: bool = False
    _seen: int = 0

    def __post_init__(self) -> None:
        groups = self.groups(self.core.redis)
        groups.life = self.life
        bus = MortalBus(self.core.bus.nc, self.core.bus.js, life=self.life)
        self.hops = Hops(bus, groups)
        settings = config.RouteSettings(shard_size=SHARD, window_shards=2)
        self.pattern = Pattern("model", "of this test", lambda options: self._slip(), nothing_needed)
        self.windows = Windows(self.hops, Patterns({"model": self.pattern}), settings)
        self.watch = RedisWatch(self.hops, self.core.redis)
        self.workers = {"route": self._route(), "rerank": self._rerank()}

    @property
    def group(self) -> str:
        return subjects.job_group(self.tenant, JOB)

    def _slip(self) -> list[AnyStep]:
        return [Scatter([Rerank()], n=self.samples), Rerank()] if self.samples else [Rerank()]

    def _route(self) -> Worker:
        worker = self.core.worker(RouteSettings(), self.hops)
        worker.on(Scatter, lambda task, step: handlers.scatter(task, step, SHARD))
        worker.on(Open, self.windows.go_on)
        worker.on(Report, Reports(self.hops, self.core.cancels, Paces(self.core.redis), worker.telemetry).write)
        return worker

    def _rerank(self) -> Worker:
        async def answers(task: Task, step: Rerank) -> Sequence[Item]:
            return [_answered(item) for item in task.items]

        worker = self.core.worker(RerankSettings(), self.hops)
        worker.on(Rerank, answers)
        return worker

    async def submit(self) -> None:
        """What the opener does with a submission. May be repeated; after the report it does nothing."""
        if await self.report() is not None:
            return
        raw = [b'{"question":"q%d"}' % n for n in range(self.items)]
        submission = Submission(self.tenant, "model", 1, "", b'{"job":"%s"}' % JOB.encode(), 0.0)
        sizes, ends = Sizes(self.items, SHARD), Deadlines(1e12, 1e12)
        opening: Opening = open_job(submission, Job(), sizes, self.pattern, self._slip(), ends)
        if self.windowed:
            await self.windows.first(opening, await self.core.bus.put_claim(b"\n".join(raw)))
        else:
            await self.windows.whole(opening, raw)
        self.submitted = True

    async def look(self) -> None:
        """Take up what is new in WORK."""
        state = (await self.core.bus.js.stream_info(WORK.name)).state
        for sequence in range(max(self._seen + 1, state.first_seq), state.last_seq + 1):
            try:
                message = await self.core.bus.js.get_msg(WORK.name, sequence, direct=True)
            except NotFoundError:
                continue
            self.hand[sequence] = message.data or b""
        self._seen = max(self._seen, state.last_seq)

    async def work(self, sequence: int, acknowledge: bool = True) -> None:
        """Carry out one message; without an acknowledgement it stays and comes again."""
        data = self.hand[sequence]
        await self._carry_out(data)
        self.done.append(data)
        if acknowledge and self.hand.pop(sequence, None) is not None:
            await self.core.bus.js.delete_msg(WORK.name, sequence)

    async def stall(self, left: int, call: Callable[[], Awaitable[None]]) -> None:
        """Do this up to a point, and stand still there; the rest comes with `wake`, if it is not done by then."""
        stall = Stall(left)

        async def slowly() -> None:
            STALL.set(stall)
            await call()

        self.stalled = stall, asyncio.create_task(slowly())
        while not (self.stalled[1].done() or stall.waits):  # noqa: ASYNC110  # two conditions
            await asyncio.sleep(0.001)

    async def wake(self) -> None:
        """Who stands still goes on as if nothing had been."""
        if self.stalled is not None:
            (stall, task), self.stalled = self.stalled, None
            stall.go_on.set()
            await task

    async def bury(self, sequence: int) -> None:
        """A message that no worker could carry out: its items arrive as failed, and it may be sent again."""
        data = self.hand[sequence]
        step = msgspec.msgpack.decode(data, type=Task).steps[0]
        lost = Lost(WORK.name, sequence, subjects.work(step, "batch"), data, {}, 5)
        await bury(self.hops, lost, Failure("internal", "given up", step.service))
        self.buried.append(data)
        del self.hand[sequence]
        await self.core.bus.js.delete_msg(WORK.name, sequence)

    async def _carry_out(self, data: bytes) -> None:
        step = msgspec.msgpack.decode(data, type=Task).steps[0]
        message = Msg(self.core.bus.nc, subjects.work(step, "batch"), "", data, {})
        await self.workers[step.service]._attempt(Unsettled(message, 1, 0.0))

    def has_items(self, data: bytes) -> bool:
        return bool(msgspec.msgpack.decode(data, type=Task).items)

    async def again(self, data: bytes) -> None:
        """The same task once more, its dedupe window over."""
        step = msgspec.msgpack.decode(data, type=Task).steps[0]
        await self.core.bus.publish(subjects.work(step, "batch"), data)

    async def alarm(self, *, late: bool = False) -> None:
        """The alarms of all groups go off; late: their deadline has passed. Who dies over one gets it again."""
        self.overdue = self.overdue or late
        for group in await self.watch._waiting():
            wake = Task("", self.tenant, JOB, "", [], [Expire(group)], "", 0)
            before = NOW.set(1e13 if late else 1.0)
            try:
                await self._carry_out(msgspec.msgpack.encode(wake))
            finally:
                NOW.reset(before)
        self.overdue = self.overdue and not late

    async def dying(self, left: int, call: Callable[[], Awaitable[None]]) -> bool:
        """Do this with so many steps to live; says whether it was survived."""
        before = asyncio.all_tasks()
        self.life.left = left
        try:
            await call()
        except Death:
            others = asyncio.all_tasks() - before  # what was to be done at the same time dies too
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            return False
        finally:
            self.life.left = None
        return True

    async def remember(self) -> None:
        """What Redis has on disk now."""
        redis = self.core.redis
        self.snapshot = {key: await redis.dump(key) or b"" for key in await redis.keys("*")}  # type: ignore[misc]  # bytes: nothing is decoded

    async def forget(self) -> None:
        """Redis is killed and comes back with what it had on disk; without a snapshot, with nothing."""
        redis = self.core.redis
        await redis.flushdb()
        for key, value in (self.snapshot or {}).items():
            await redis.restore(key, 0, value, replace=True)
        await redis.delete(COUNTED)  # it is another run of the server now

    async def until_quiet(self) -> None:
        """Nobody dies any more: carry out what there is until nothing is left."""
        await self.wake()
        if not self.submitted:
            await self.submit()
        if self.overdue:
            await self.alarm(late=True)
        for _ in range(3):
            await self._work_off()
            if await self.report() is not None:
                break
            await self.watch.look()
        await self._join_what_was_opened_again()
        await self._work_off()

    async def _join_what_was_opened_again(self) -> None:
        """A scatter that came again after its join has parked its parent once more; its join is dropped as a duplicate
        until the dedupe window is over, and then it must do no harm."""
        for group in await self.parked():
            if group.endswith("/window"):
                continue
            if (waiting := await self.core.hops.parked(group)) is not None:
                wake = msgspec.structs.replace(waiting.task, items=[], steps=[Join(group)])
                await self.again(msgspec.msgpack.encode(wake))

    async def _work_off(self) -> None:
        await self.look()
        while self.hand:
            await self.work(next(iter(self.hand)))
            await self.look()

    async def report(self) -> JobReport | None:
        last = await self.core.bus.last(RESULTS, subjects.result(self.tenant, JOB, "done"))
        return None if last is None else msgspec.json.decode(last.data or b"", type=JobReport)

    async def results(self) -> list[ShardResult]:
        """All shard results of the stream, one for each message."""
        found = await self.core.messages(RESULTS.name, subjects.result(self.tenant, JOB, "*"))
        shards = [data for data in found if b'"shard":' in data]
        return [msgspec.json.decode(data, type=ShardResult) for data in shards]

    async def found(self) -> Found:
        wanted = subjects.result(self.tenant, JOB, "*")
        counts = (await self.core.bus.js.stream_info(RESULTS.name, subjects_filter=wanted)).state.subjects or {}
        return Found(await self.report(), await self.results(), {k.rpartition(".")[2]: v for k, v in counts.items()})

    async def parked(self) -> list[str]:
        """Groups and cursors that still wait."""
        prefix = f"$KV.{PARKED.name}."
        info = await self.core.bus.js.stream_info(f"KV_{PARKED.name}", subjects_filter=f"{prefix}>")
        keys = [subject.removeprefix(prefix) for subject in info.state.subjects or {}]
        return [key for key in keys if await self.core.bus.find_parked(key) is not None]


def _answered(item: Item) -> Item:
    """Every third fails; each costs the same."""
    failure = Failure("unanswerable", "no passage says", "rerank") if item.n % 3 == 2 else None
    return msgspec.structs.replace(item, usage=item.usage + COST, answer=Answer("fine"), failure=failure)
