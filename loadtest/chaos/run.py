"""One run: a stack, a job, faults until the job is through, and what is found when all is quiet."""

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import nats
from nats.errors import Error as NatsError

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack import StackInfo, down, find_data, up
from client.stack.config import SERVICES
from contracts import subjects
from contracts.item import Input
from contracts.job import JobOpened, JobReport, Options
from contracts.subjects import DEAD, RESULTS, WORK
from loadtest.chaos.model import ChaoticModel, chaotic
from loadtest.chaos.outcome import Outcome, Progress, Settings, errors
from loadtest.chaos.plan import faults
from loadtest.chaos.saboteur import Saboteur
from loadtest.chaos.verdict import Found, verdict
from shared.bus import Bus, answered
from shared.errors import PenstockError

LIBRARY = Path(__file__).parents[2] / "samples" / "library"
QUESTIONS = (
    "Does plan HMO-483 cover physiotherapy after ACL surgery?",
    "How many days of annual leave may be carried over?",
    "What does a pH electrode cost?",
    "For how long are backups kept?",
)
JOB = "chaos"
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
                async with await Penstock.connect(info.nats_url) as penstock, _operator(info) as bus:
                    return await _Run(settings, info, penstock, bus, model, watch).through()
            finally:
                await asyncio.to_thread(down, data)


@asynccontextmanager
async def _operator(info: StackInfo) -> AsyncIterator[Bus]:
    """A connection that sees all streams, not those of one tenant alone."""
    url: str = info.operator_url
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.5, error_cb=_quiet)
    yield Bus.on(nc)
    await nc.close()


async def _quiet(_: Exception) -> None:
    """Connections are cut on purpose."""


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
    progress: Progress = field(default_factory=Progress)

    async def through(self) -> Outcome:
        report = await ingest(self.penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if report.failed:
            raise PenstockError(f"the sample library could not be read: {report.reasons}")
        began = self.progress.at = time.monotonic()
        await self._submit()
        saboteur = Saboteur(self.info, stall_s=self.settings.ack_wait_s + 1)
        async with self._looking(), saboteur.ready():
            await self._torment(saboteur)
            last = time.monotonic()
            found = await self._until_report()
            ended = time.monotonic()
        await self._until_quiet()
        return await self._outcome(found, began, last, ended)

    async def _submit(self) -> None:
        count = self.settings.items
        items = [Input(question=f"{QUESTIONS[n % len(QUESTIONS)]} (item-{n})", id=f"item-{n}") for n in range(count)]
        options = Options(model="chaotic", when_ungrounded="mark", cache="off")
        await self.penstock.submit("rag", items, options, JOB, lane="batch")

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

    async def _until_report(self) -> JobReport | None:
        last = time.monotonic()
        while time.monotonic() - max(self.progress.at, last) < self.settings.stuck_s:
            try:
                if report := await self.penstock.find_report(JOB):
                    return report
            except (PenstockError, NatsError):
                pass  # the server is coming back
            await asyncio.sleep(_LOOK_S)
        return None

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        size = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                shards = [name for name in await self._messages() if name.isdecimal()]
                if shards and not size:
                    size = -(-self.settings.items // await self._shards())
            except (TimeoutError, PenstockError, NatsError):
                continue  # the server is away: nothing arrives meanwhile
            self.progress.saw(min(self.settings.items, len(shards) * size))
            self.watch(self.progress)

    async def _shards(self) -> int:
        opened = await self.bus.last(RESULTS, subjects.result(self.penstock.tenant, JOB, "open"))
        return msgspec.json.decode(opened.data or b"", type=JobOpened).shards if opened else 1

    async def _messages(self) -> dict[str, int]:
        """How many messages each subject of the job's results has, by the subject's last token."""
        wanted = subjects.result(self.penstock.tenant, JOB, "*")
        info = await answered(self.bus.js.stream_info(RESULTS.name, subjects_filter=wanted))
        return {name.rpartition(".")[2]: count for name, count in (info.state.subjects or {}).items()}

    async def _until_quiet(self) -> None:
        """Redelivered and repeated work may still come in: none of it may change anything."""
        until = time.monotonic() + 3 * self.settings.ack_wait_s + 20
        while time.monotonic() < until:
            state = (await answered(self.bus.js.stream_info(WORK.name))).state
            if state.messages == 0:
                return
            await asyncio.sleep(_LOOK_S)

    async def _outcome(self, report: JobReport | None, began: float, last: float, ended: float) -> Outcome:
        shards = [shard async for shard in self.penstock.stored_results(JOB)]
        found = Found(report, shards, await self._messages())
        dead = (await answered(self.bus.js.stream_info(DEAD.name))).state.messages
        reasons = Counter(f"{i.failure.code}: {i.failure.reason}" for s in shards for i in s.items if i.failure)
        return Outcome(
            verdict(self.settings.items, found), self.progress, self.model, ended - began, self.progress.slowest_s,
            ended - last, dead, dict(reasons.most_common(10)), errors(Path(self.info.data)),
        )  # fmt: skip
