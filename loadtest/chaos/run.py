"""One run: a stack, a job, faults until the job is through, and what is found when all is quiet."""

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack import StackInfo, down, find_data, up
from client.stack.config import SERVICES
from contracts.subjects import DEAD
from loadtest.chaos.model import ChaoticModel, chaotic
from loadtest.chaos.outcome import Outcome, Progress, Settings, errors
from loadtest.chaos.plan import faults
from loadtest.chaos.saboteur import Saboteur
from loadtest.chaos.verdict import verdict
from loadtest.chaos.watched import AWAY, WatchedJob, operator, reasons, until_quiet
from shared.bus import Bus, answered
from shared.errors import PenstockError

LIBRARY = Path(__file__).parents[2] / "samples" / "library"
READY_S = 120.0
_SKEW = Path(__file__).parent / "skew"
_LOOK_S = 0.25
_BEHIND = 3  # faults that may be ahead of the job


async def run(settings: Settings, watch: Callable[[Progress], None]) -> Outcome:
    """Raises PenstockError where the stack does not start."""
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-") as folder:
        data = find_data(Path(folder) / "data")
        model = chaotic(settings.seed, settings.model_faults)
        async with model.running():
            try:
                with _environment(settings, model, Path(folder)):
                    info = await asyncio.to_thread(up, data, READY_S)
                async with await Penstock.connect(info.nats_url) as penstock, operator(info.operator_url) as bus:
                    job = WatchedJob(penstock, bus, "chaos", settings.items)
                    return await _Run(settings, info, penstock, bus, model, watch, job).through()
            finally:
                await asyncio.to_thread(down, data)


@contextmanager
def _environment(settings: Settings, model: ChaoticModel, folder: Path) -> Iterator[None]:
    """What the services will see; nothing of the caller's own settings."""
    catalogue = folder / "models.yaml"
    catalogue.write_text(model.catalogue)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        del os.environ[name]
    os.environ |= {f"PENSTOCK_{name.upper()}_ACK_WAIT_S": str(settings.ack_wait_s) for name in SERVICES}
    os.environ |= {"PENSTOCK_MODELS": str(catalogue), "PENSTOCK_GENERATE_BATCH_SLOTS": "4"}
    os.environ |= {
        "CHAOS_SKEW": settings.skew,
        "PYTHONPATH": os.pathsep.join([str(_SKEW), before.get("PYTHONPATH", "")]),
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class _Run:
    settings: Settings
    info: StackInfo
    penstock: Penstock
    bus: Bus
    model: ChaoticModel
    watch: Callable[[Progress], None]
    job: WatchedJob
    progress: Progress = field(default_factory=Progress)

    async def through(self) -> Outcome:
        report = await ingest(self.penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if report.failed:
            raise PenstockError(f"the sample library could not be read: {report.reasons}")
        began = self.progress.at = time.monotonic()
        await self.job.submit()
        saboteur = Saboteur(self.info, stall_s=self.settings.ack_wait_s + 1)
        async with self._looking(), saboteur.ready():
            await self._torment(saboteur)
            last = time.monotonic()
            await self._until_report()
            ended = time.monotonic()
        await until_quiet(self.bus, 3 * self.settings.ack_wait_s + 20)
        return await self._outcome(began, last, ended)

    async def _torment(self, saboteur: Saboteur) -> None:
        plan = faults(self.settings.seed, self.settings.kills)
        for done, fault in enumerate(plan):
            self.model.allowed = self.settings.items * (done + 1) / len(plan)
            await asyncio.sleep(self.settings.gap_s)
            await self._let_it_work(self.settings.items * (done - _BEHIND) / len(plan))
            if await saboteur.do(fault):
                self.progress.hit(fault.name, fault.kills)
        self.model.allowed = float("inf")

    async def _let_it_work(self, items: float) -> None:
        """Faults shall meet a job that goes on: wait until so many have arrived, unless it is stuck."""
        while self.progress.arrived < items and not self._stuck:  # noqa: ASYNC110  # what we wait for is polled
            await asyncio.sleep(_LOOK_S)

    @property
    def _stuck(self) -> bool:
        return time.monotonic() - self.progress.at > self.settings.stuck_s

    async def _until_report(self) -> None:
        last = time.monotonic()
        while time.monotonic() - max(self.progress.at, last) < self.settings.stuck_s:
            if await self.job.report():
                return
            await asyncio.sleep(_LOOK_S)

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            with suppress(*AWAY):  # nothing arrives meanwhile
                self.progress.saw(await self.job.arrived())
                self.watch(self.progress)

    async def _outcome(self, began: float, last: float, ended: float) -> Outcome:
        found = await self.job.found()
        dead = (await answered(self.bus.js.stream_info(DEAD.name))).state.messages
        why = Counter(reasons(found.shards))
        return Outcome(
            verdict(self.settings.items, found), self.progress, self.model, ended - began, self.progress.slowest_s,
            ended - last, dead, dict(why.most_common(10)), errors(Path(self.info.data)),
        )  # fmt: skip
