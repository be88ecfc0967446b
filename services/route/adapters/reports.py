"""Writes the report of a job: counters from Redis (recounted from RESULTS where Redis forgot), reasons from RESULTS."""

import time
from dataclasses import dataclass, replace

import msgspec

from contracts import subjects
from contracts.job import ItemFailure, ShardResult
from contracts.steps import Report
from contracts.subjects import BURIED, RESULTS
from contracts.task import Task
from services.route.adapters.paces import Paces
from services.route.handlers import FAILURES_IN_REPORT, report
from shared import tracing
from shared.cancels import Cancels
from shared.groups import Totals
from shared.hops import Hops
from shared.outcome import Finished, Outcome
from shared.recount import arrivals, indexed, recount, tallies
from shared.redriven import seal
from shared.results import summed
from shared.telemetry import Telemetry


@dataclass(frozen=True)
class Reports:
    """The end of every job."""

    hops: Hops
    cancels: Cancels
    paces: Paces
    telemetry: Telemetry

    async def write(self, task: Task, step: Report) -> Outcome:
        """Write `.done` once; a repeated report changes nothing."""
        group = subjects.job_group(task.tenant, task.job)
        totals = await self._totals(group)
        if totals.taken_back:
            totals = await self._sealed(task, totals)
        failures = await self._failures(task, totals.failed_indices)
        if tracing.is_recording() and totals.count.size > 1:
            wanted = subjects.result(task.tenant, task.job, "*")
            tracing.link(await arrivals(self.hops.bus, RESULTS, wanted, tracing.LINKS))
        done = report(
            task,
            size=totals.tally.succeeded + totals.tally.failed,
            shards=totals.count.size,
            counts=totals.tally,
            failures=failures,
            now=time.time(),
            cancelled=self.cancels.reason(task.tenant, task.job) is not None,
        )
        if await self.hops.bus.write_once(subjects.result(task.tenant, task.job, "done"), msgspec.json.encode(done)):
            self.telemetry.ended(task, totals.tally)
            await self.paces.note(task.pattern, task.options, totals.tally)
        return Finished()

    async def _totals(self, group: str) -> Totals:
        totals = await self.hops.groups.totals(group)
        if not totals.count.complete:
            parked = await self.hops.parked(group)
            if parked is not None:
                await recount(self.hops.bus, self.hops.groups, group, parked)
                totals = await self.hops.groups.totals(group)
        return totals

    async def _sealed(self, task: Task, totals: Totals) -> Totals:
        """What the stream says, once no redriven task can change it any more.

        Who redrives uncounts the burial, writes over it, and counts. A recount between the first two counts the burial
        again, and the job may come to its end by that. So where anybody has uncounted one, the counters do not count.
        """
        wanted = subjects.result(task.tenant, task.job, "*")
        for index, head in indexed(await arrivals(self.hops.bus, RESULTS, wanted)):
            if BURIED in head:
                await seal(self.hops.bus, RESULTS, subjects.result(task.tenant, task.job, index))
        found = tallies(await arrivals(self.hops.bus, RESULTS, wanted))
        failed = [index for index, counts in found if counts.failed]
        return replace(totals, tally=summed(counts for _, counts in found), failed_indices=sorted(failed))

    async def _failures(self, task: Task, indices: list[int]) -> list[ItemFailure]:
        """The first reasons why items failed, read from the shards that had failures."""
        found: list[ItemFailure] = []
        for index in indices:
            if len(found) >= FAILURES_IN_REPORT:
                break
            message = await self.hops.bus.last(RESULTS, subjects.result(task.tenant, task.job, index))
            if message is not None:
                found += _failures_of(message.data or b"")
        return found


def _failures_of(stored: bytes) -> list[ItemFailure]:
    return [
        ItemFailure(item.n, item.failure.code, item.failure.reason, item.id)
        for item in msgspec.json.decode(stored, type=ShardResult).items
        if item.failure is not None
    ]
