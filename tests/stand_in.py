"""Plays all services for tests of the client, as their published protocol says."""

import asyncio

import msgspec
from nats.aio.msg import Msg

from contracts import subjects
from contracts.item import Answer, Failure, IndexedDocument, Input
from contracts.job import ItemResult, Job, JobReport, ShardResult, TokenDelta
from contracts.task import Tally
from shared.bus import Bus
from shared.uploads import Uploads


class StandIn:
    """Answers jobs item by item, two items a shard.

    Patterns: `tokens` streams, `never` says nothing, `nonsense` is rejected. Bad lines and the question "fail" fail.
    `pause_after` shards it stops until `go_on` is set, as if the services were slow.
    """

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.jobs: list[Job] = []
        self.pause_after: int | None = None
        self.go_on = asyncio.Event()

    async def take(self, message: Msg) -> None:
        _, tenant, pattern = message.subject.split(".")
        job = msgspec.json.decode(message.data, type=Job)
        self.jobs.append(job)
        if pattern == "nonsense":
            await self.reject(tenant, job.job, job.job, "pattern: no such pattern 'nonsense'")
        elif job.job == "in-use":
            await self.reject(tenant, await self.last_job(), job.job, "job: the id 'in-use' is in use")
        elif pattern != "never":
            await self.answer(tenant, pattern, job)

    async def last_job(self) -> str:
        return str((await self.bus.js.stream_info("JOBS_default")).state.last_seq)

    async def reject(self, tenant: str, place: str, job: str, error: str) -> None:
        report = JobReport(job, tenant, "x", "rejected", error=error)
        await self.bus.publish(subjects.result(tenant, place, "done"), msgspec.json.encode(report))

    async def answer(self, tenant: str, pattern: str, job: Job) -> None:
        lines = [bytes(item) for item in job.items]
        if job.items_claim:
            lines = (await Uploads(self.bus, tenant).read(job.items_claim)).split(b"\n")
        if pattern == "tokens":
            await self.stream(tenant, job.job)
        items = [self.item(n, line) for n, line in enumerate(lines)]
        for shard in range(0, len(items), 2):
            if self.pause_after is not None and shard // 2 >= self.pause_after:
                await self.go_on.wait()
            some = items[shard : shard + 2]
            tally = Tally(
                succeeded=sum(i.failure is None for i in some), failed=sum(i.failure is not None for i in some)
            )
            await self.bus.publish(
                subjects.result(tenant, job.job, shard // 2),
                msgspec.json.encode(ShardResult(job.job, shard // 2, some)),
                headers={subjects.TALLY: msgspec.json.encode(tally).decode()},
            )
        failed = sum(item.failure is not None for item in items)
        report = JobReport(
            job.job, tenant, pattern, "done", len(items), len(items) - failed, failed, shards=(len(items) + 1) // 2
        )
        await self.bus.publish(subjects.result(tenant, job.job, "done"), msgspec.json.encode(report))

    async def stream(self, tenant: str, job: str) -> None:
        for delta in (
            TokenDelta(0, "wrong"),
            TokenDelta(0, "He", attempt=2),
            TokenDelta(1, "late word of the first"),
            TokenDelta(0, "He", attempt=2),
            TokenDelta(1, "llo", attempt=2, finish_reason="stop"),
        ):
            await self.bus.nc.publish(subjects.tokens(tenant, job, 0), msgspec.json.encode(delta))

    def item(self, n: int, line: bytes) -> ItemResult:
        try:
            given = msgspec.json.decode(line, type=Input)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return ItemResult(n, failure=Failure("malformed", str(error), "route"))
        if given.question == "fail":
            return ItemResult(n, given.id, given.question, failure=Failure("unanswerable", "no passage says", "judge"))
        if given.document:
            indexed = IndexedDocument(given.document.name, given.document.name, "r1", chunks=3, tokens=900)
            return ItemResult(n, id=given.id, document=indexed)
        return ItemResult(n, given.id, given.question, Answer(given.question.upper(), "extractive"))
