"""What RESULTS says about a job's id: who owns it, how its job ended, why a submission was refused."""

from dataclasses import dataclass

import msgspec

from contracts import subjects
from contracts.job import JobOpened, JobReport
from contracts.subjects import RESULTS
from shared.bus import Bus
from shared.errors import Retryable


@dataclass(frozen=True)
class Records:
    """Every method may be repeated."""

    bus: Bus

    async def claim(self, opened: JobOpened) -> bool:
        """The first submission under an id owns it; a redelivery of the same submission goes on."""
        subject = subjects.result(opened.tenant, opened.job, "open")
        if await self.bus.write_once(subject, msgspec.json.encode(opened)):
            return True
        owner = await self.owner(opened.tenant, opened.job)
        if owner is None:
            raise Retryable("the record of the job's id went away meanwhile")
        return owner == opened.sequence

    async def owner(self, tenant: str, job: str) -> int | None:
        """The sequence of the submission that was accepted under a job's id."""
        there = await self.bus.last(RESULTS, subjects.result(tenant, job, "open"))
        return None if there is None else msgspec.json.decode(there.data or b"", type=JobOpened).sequence

    async def ended(self, opened: JobOpened) -> bool:
        """Whether the job has its report already. A refusal under the same id is taken back: it used nothing up."""
        report = await self._report(opened.tenant, opened.job)
        if report is not None and report.state == "rejected":
            await self.bus.remove(RESULTS, subjects.result(opened.tenant, opened.job, "done"))
            return False
        return report is not None

    async def refuse(self, rejected: JobReport) -> None:
        """The last refusal under an id counts; the report of another job stays."""
        subject = subjects.result(rejected.tenant, rejected.job, "done")
        if await self.bus.write_once(subject, msgspec.json.encode(rejected)):
            return
        there = await self._report(rejected.tenant, rejected.job)
        if there is not None and there.state == "rejected":
            await self.bus.remove(RESULTS, subject)
            await self.bus.write_once(subject, msgspec.json.encode(rejected))

    async def _report(self, tenant: str, job: str) -> JobReport | None:
        there = await self.bus.last(RESULTS, subjects.result(tenant, job, "done"))
        return None if there is None else msgspec.json.decode(there.data or b"", type=JobReport)
