"""Workers in the test's own process, on real servers: streams are empty at the start of each test."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar
from uuid import uuid4

import msgspec
import nats
from nats.js.errors import NotFoundError
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from contracts import subjects
from contracts.item import Input, Item
from contracts.job import JobReport, Lane, ShardResult
from contracts.steps import AnyStep, Decide, Report, Rerank, Scatter
from contracts.subjects import ALARMS, BUCKETS, DEAD, RESULTS, STREAMS, alarm
from contracts.task import DeadLetter, Parked, Task
from services.route import handlers
from services.route.adapters.given_up import GivenUp
from services.route.adapters.paces import Paces
from services.route.adapters.reports import Reports
from services.route.config import RouteSettings as FullRouteSettings
from services.route.domain.pattern import Pattern
from services.route.domain.patterns import Patterns
from shared import telemetry
from shared.audit import Audit
from shared.bus import Bus
from shared.cancels import Cancels
from shared.groups import Groups
from shared.hops import Hops
from shared.outcome import Outcome
from shared.pull import Pull
from shared.settings import ServiceSettings
from shared.telemetry import Telemetry
from shared.worker import Worker

Handler = Callable[[Task, Rerank], Awaitable[Sequence[Item] | Outcome]]

SPANS = InMemorySpanExporter()
_STARTED = telemetry.start("test", "", "test-1", spans=[SimpleSpanProcessor(SPANS)])


def telemetry_of(service: str) -> Telemetry:
    return replace(_STARTED, service=service, _providers=[])


class RerankSettings(ServiceSettings):
    service: ClassVar[str] = "rerank"


class RouteSettings(ServiceSettings):
    service: ClassVar[str] = "route"


class GenerateSettings(ServiceSettings):
    service: ClassVar[str] = "generate"


class JudgeSettings(ServiceSettings):
    service: ClassVar[str] = "judge"


@dataclass
class Core:
    """A connection, the hops on it, and the workers that a test starts."""

    url: str
    bus: Bus
    redis: "Redis"
    hops: Hops
    tenant: str  # a new one for each test: message ids are remembered after a purge
    cancels: Cancels = field(default_factory=Cancels)
    workers: list[Worker] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    exported: dict[str, Telemetry] = field(default_factory=dict)  # by service, in place of spans in memory

    def worker(self, settings: ServiceSettings, hops: Hops | None = None) -> Worker:
        spans = self.exported.get(settings.service) or telemetry_of(settings.service)
        audit = Audit(self.bus, settings.service, f"{settings.service}-test", spans)
        worker = Worker(settings, self.bus, hops or self.hops, audit, self.cancels, spans)
        self.workers.append(worker)
        return worker

    async def route(self, hops: Hops | None = None, pattern: Pattern | None = None) -> Worker:
        """Route as far as tasks go: decides, scatters, joins, expires, reports."""
        worker = self.worker(RouteSettings(ack_wait_s=2), hops)
        patterns = Patterns({} if pattern is None else {pattern.name: pattern})
        worker.on(Decide, lambda task, step: handlers.decide(task, step, patterns))
        worker.on(Scatter, lambda task, step: handlers.scatter(task, step, 2))
        worker.on(Report, Reports(hops or self.hops, self.cancels, Paces(self.redis), worker.telemetry).write)
        await worker.start()
        await worker.pull(ALARMS, "route-alarms", alarm(">"), 4)
        self.pulls.append(await GivenUp(hops or self.hops, FullRouteSettings(ack_wait_s=2)).pull())
        return worker

    async def rerank(
        self, handler: Handler, settings: RerankSettings | None = None, hops: Hops | None = None
    ) -> Worker:
        """A worker with one handler for the step Rerank."""
        worker = self.worker(settings or RerankSettings(ack_wait_s=2), hops)
        worker.on(Rerank, handler)
        await worker.start()
        return worker

    async def start_job(
        self, steps: Sequence[AnyStep], shards: Sequence[Sequence[Item]], *, job: str = "j1", pattern: str = "p",
        deadline: float | None = None, lane: Lane = "interactive", reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> list[Task]:  # fmt: skip
        """Open a job of these shards as the opener does."""
        group = subjects.job_group(self.tenant, job)
        parent = Task(
            group, self.tenant, job, pattern, [], [Report()], group, 0, lane=lane, deadline=deadline,
            submitted_at=time.time(), reply=reply,
        )  # fmt: skip
        size = max(len(shard) for shard in shards)
        parked = Parked(parent, len(shards), "report", items=sum(map(len, shards)), shard_size=size)
        tasks = [
            msgspec.structs.replace(parent, id=f"{group}/{index}", items=list(shard), steps=list(steps), index=index)
            for index, shard in enumerate(shards)
        ]
        await self.hops.open_group(group, parked)
        await self.hops.publish_all(tasks, headers or {})
        return tasks

    def group(self, job: str = "j1") -> str:
        return subjects.job_group(self.tenant, job)

    async def report(self, job: str = "j1", seconds: float = 8) -> JobReport:
        return msgspec.json.decode(
            await self.wait_for(subjects.result(self.tenant, job, "done"), seconds), type=JobReport
        )

    async def shard(self, index: int = 0, job: str = "j1", seconds: float = 8) -> ShardResult:
        return msgspec.json.decode(
            await self.wait_for(subjects.result(self.tenant, job, index), seconds), type=ShardResult
        )

    async def wait_for(self, subject: str, seconds: float = 8) -> bytes:
        """The payload of a subject of RESULTS, once it is there."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = await self.bus.last(RESULTS, subject)
            if message is not None:
                return message.data or b""
            await asyncio.sleep(0.02)
        raise TimeoutError(f"nothing came on {subject}")

    async def dead(self) -> list[DeadLetter]:
        return [msgspec.msgpack.decode(data, type=DeadLetter) for data in await self.messages(DEAD.name, "dead.*")]

    async def messages(self, stream: str, subject: str) -> list[bytes]:
        """All that a stream holds on a subject, claims resolved."""
        found = []
        state = (await self.bus.js.stream_info(stream)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            try:
                message = await self.bus.js.get_msg(stream, sequence)
            except NotFoundError:
                continue
            if fits(message.subject or "", subject):
                found.append(await self.bus.payload(message.data or b"", message.headers))
        return found

    async def count(self, stream: str) -> int:
        return (await self.bus.js.stream_info(stream)).state.messages

    async def empty(self) -> None:
        for stream in STREAMS:
            for consumer in await self.bus.js.consumers_info(stream.name):
                await self.bus.js.delete_consumer(stream.name, consumer.name)
            await self.bus.js.purge_stream(stream.name)
        for bucket in BUCKETS:
            await self.bus.js.purge_stream(f"{'KV' if bucket.kind == 'kv' else 'OBJ'}_{bucket.name}")
        await self.redis.flushdb()
        SPANS.clear()


@asynccontextmanager
async def open_core(url: str, redis_url: str, check_s: float = 60.0) -> AsyncIterator[Core]:
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_silent)
    bus = Bus.on(nc)
    await bus.ensure()
    redis: Redis = Redis.from_url(redis_url)
    found = Core(url, bus, redis, Hops(bus, Groups(redis), check_s), f"t{uuid4().hex[:8]}")
    await found.empty()
    yield found
    for worker in found.workers:
        await worker.drain(1)
    for pull in found.pulls:
        await pull.drain(1)
    await nc.close()
    await redis.aclose()


async def eventually(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = 8) -> None:
    until = time.monotonic() + seconds
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        assert time.monotonic() < until, "did not happen in time"
        await asyncio.sleep(0.02)


def question(n: int, text: str = "") -> Item:
    return Item(n=n, input=Input(question=text or f"question {n}"))


def fits(subject: str, pattern: str) -> bool:
    """Whether a subject fits a pattern without `>`."""
    here, there = subject.split("."), pattern.split(".")
    return len(here) == len(there) and all(b in ("*", a) for a, b in zip(here, there, strict=True))


class Crash(Exception):
    """What a test raises where a worker is to die: nothing after it runs."""


async def _silent(_: Exception) -> None:
    """Connections are cut on purpose."""
