"""Runs a batch so that it can be interrupted anywhere: attach to what is on its way, submit only what is missing."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path

import msgspec
from msgspec import Struct

from client.client import Penstock, Receipt
from client.errors import JobIdInUse, JobRejected
from client.items import question_of
from client.outfile import Counts, OutFile
from client.submission import new_job_id
from contracts.item import Usage
from contracts.job import ItemResult, Options

Progress = Callable[[Counts], None]


@dataclass(frozen=True)
class Batch:
    """What shall be run; `lines` hold one item each."""

    job: str
    pattern: str
    options: Options
    lines: Sequence[bytes]
    deadline_s: float | None = None
    user: str = ""


class BatchReport(Struct, frozen=True):
    """How a batch ended; `seconds` as the stack measured them, from submission to report."""

    job: str
    pattern: str
    size: int
    succeeded: int
    failed: int
    reasons: dict[str, int]
    seconds: float
    usage: Usage
    out: str
    found: int  # how many results the file had before
    rungs: dict[str, int] = {}  # answers by rung, those of the model asked for left out


class Rest(Struct):
    """What was submitted anew under an id of its own; kept beside the results until it is done."""

    job: str
    items: list[int]  # the places of its items in the batch


def default_job(data: bytes, pattern: str, options: Options) -> str:
    """The same for the same items, pattern and options, so that repeating a command resumes its job."""
    digest = blake2s(digest_size=8)
    for part in (data, pattern.encode(), msgspec.json.encode(options)):
        digest.update(len(part).to_bytes(8) + part)
    return f"batch-{digest.hexdigest()}"


async def run_batch(
    penstock: Penstock, batch: Batch, out_path: Path, on_progress: Progress, retry_failed: bool = False
) -> BatchReport:
    """Bring the results of all items into the file, in order. Raises JobRejected and what a connection raises."""
    with OutFile(out_path, batch.job, len(batch.lines)) as out:
        found = out.counts.done
        if retry_failed:
            out.drop_failed()
        on_progress(out.counts)
        run = _Run(penstock, batch, out, out_path.with_name(out_path.name + ".rest.json"), on_progress)
        await run.finish(retry_failed)
        out.sort()
        return BatchReport(
            job=batch.job,
            pattern=batch.pattern,
            size=len(batch.lines),
            succeeded=out.counts.succeeded,
            failed=out.counts.failed,
            reasons=dict(out.counts.reasons),
            seconds=round(run.seconds, 3),
            usage=out.counts.usage,
            out=str(out_path),
            found=found,
            rungs=dict(out.counts.rungs),
        )


@dataclass
class _Run:
    penstock: Penstock
    batch: Batch
    out: OutFile
    rest_path: Path
    on_progress: Progress
    seconds: float = 0.0

    async def finish(self, retry_failed: bool) -> None:
        """First what was under way, then what is still missing."""
        everything = range(len(self.batch.lines))
        rest = self._rest()
        if rest and await self.penstock.knows(rest.job):
            await self._collect(rest.job, rest.job, rest.items)
        elif self.out.missing and not retry_failed and await self.penstock.knows(self.batch.job):
            await self._collect(self.batch.job, self.batch.job, everything)
        if self.out.missing:
            await self._submit_missing(everything)
        self.rest_path.unlink(missing_ok=True)

    async def _submit_missing(self, everything: Sequence[int]) -> None:
        missing = self.out.missing
        if len(missing) == len(everything) and not await self.penstock.knows(self.batch.job):
            receipt = await self._submit(self.batch.job, everything)
            try:
                await self._collect(receipt, self.batch.job, everything)
            except JobIdInUse:  # our own submission of long ago: it is the one that counts
                await self._collect(self.batch.job, self.batch.job, everything)
            return
        rest = Rest(f"{self.batch.job}-{new_job_id()[:8]}", missing)
        self.rest_path.write_bytes(msgspec.json.encode(rest))
        await self._collect(await self._submit(rest.job, missing), rest.job, missing)

    async def _submit(self, job: str, items: Sequence[int]) -> Receipt:
        lines = [self.batch.lines[n] for n in items]
        return await self.penstock.submit(
            self.batch.pattern, lines, self.batch.options, job, self.batch.deadline_s, "batch", self.batch.user
        )

    async def _collect(self, source: str | Receipt, job: str, items: Sequence[int]) -> None:
        """Write the results of a job as they come; `items` are the places of its items in the batch."""
        async with aclosing(self.penstock.results(source)) as shards:
            async for shard in shards:
                for result in shard.items:
                    self._take(result, job, items)
                self.out.flush()
                self.on_progress(self.out.counts)
        report = await self.penstock.find_report(job)
        self.seconds += report.seconds if report else 0.0

    def _take(self, result: ItemResult, job: str, items: Sequence[int]) -> None:
        if result.n >= len(items) or not self._is_ours(result, items[result.n]):
            raise JobRejected(f"job {job}: its results are of other items; choose another --job")
        self.out.add(msgspec.structs.replace(result, n=items[result.n], job=job))

    def _is_ours(self, result: ItemResult, n: int) -> bool:
        question = question_of(self.batch.lines[n])
        return not result.question or question is None or result.question == question

    def _rest(self) -> Rest | None:
        try:
            return msgspec.json.decode(self.rest_path.read_bytes(), type=Rest)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
