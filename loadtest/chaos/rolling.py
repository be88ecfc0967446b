"""A rolling upgrade of everything under load, on the stack of compose.yaml: `make chaos-stack [ITEMS=5000 ROUNDS=1]`.

Three jobs run, of the patterns rag, direct and self-consistency, while the containers of each service, of
NATS, Redis and OpenSearch are replaced by new ones, one after the other. The model gives out answers only as fast as
that goes on, so that the last change meets jobs that are still at work. What came out is judged as in `make chaos`.
Prints what was changed and how long, and as its last line JSON. Ends with 1 where an item was lost, doubled, or failed
without a reason.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.client import Penstock
from client.documents import find_documents, ingest
from contracts.subjects import DEAD
from loadtest.chaos.model import ChaoticModel, chaotic
from loadtest.chaos.outcome import Progress
from loadtest.chaos.run import LIBRARY
from loadtest.chaos.verdict import Verdict, verdict
from loadtest.chaos.watched import AWAY, WatchedJob, operator, reasons, until_quiet
from loadtest.compose_stack import HOST, ComposeStack, StackFault, no_engine
from shared.bus import Bus, answered
from shared.errors import PenstockError

ORDER = (
    "retrieve", "nats", "rerank", "redis", "route", "generate-gpu", "opensearch", "judge", "ingest", "memory",
)  # fmt: skip
"""Those in the way of the jobs first."""
SCALE = {"retrieve": 2, "rerank": 2, "generate-gpu": 3}
SHARES = {"rag": 0.6, "direct": 0.3, "self-consistency": 0.1}
"""Patterns, and which share of the items each gets."""
_STUCK_S = 180.0
_LOOK_S = 0.25


@dataclass(frozen=True)
class Change:
    """A service whose containers were replaced: until the new ones were ready, and how many items came meanwhile.
    `said`: the last words of one that ended while it started, and was started again."""

    service: str
    seconds: float
    arrived: int
    said: str


@dataclass(frozen=True)
class Outcome:
    """What is printed. `verdicts` by pattern."""

    verdicts: dict[str, Verdict]
    changes: list[Change]
    model: ChaoticModel
    seconds: float  # from submission to the last report
    longest_gap_s: float  # from a change until the next result
    dead_letters: int
    reasons: dict[str, int]

    @property
    def kept(self) -> bool:
        return all(each.kept for each in self.verdicts.values())

    def total(self, name: str) -> int:
        return sum(int(getattr(each, name)) for each in self.verdicts.values())


@asynccontextmanager
async def stack_with(model: ChaoticModel, folder: Path, project: str) -> AsyncIterator[ComposeStack]:
    """A started stack whose generate calls this model, which is listening. Raises StackFault."""
    catalogue = folder / "models.yaml"
    catalogue.write_text(model.catalogue)
    stack = ComposeStack(folder, project, SCALE, environment={"PENSTOCK_MODELS": str(catalogue)})
    try:
        await asyncio.to_thread(stack.start)
        yield stack
    finally:
        await asyncio.to_thread(stack.stop)


async def run(stack: ComposeStack, model: ChaoticModel, items: int, rounds: int, say: Callable[[str], None]) -> Outcome:
    """Read the library, submit, replace everything so many times, and judge what there is when all is quiet."""
    addresses = [(stack.secrets / f"{name}.url").read_text() for name in ("default", "penstock-operator")]
    async with await Penstock.connect(addresses[0]) as penstock, operator(addresses[1]) as bus:
        read = await ingest(penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if read.failed:
            raise PenstockError(f"the sample library could not be read: {read.reasons}")
        return await _Run(stack, model, bus, _jobs(penstock, bus, items), rounds, say).through()


def _jobs(penstock: Penstock, bus: Bus, items: int) -> list[WatchedJob]:
    counts = {pattern: max(1, round(items * share)) for pattern, share in SHARES.items()}
    firsts = [sum(list(counts.values())[:at]) for at in range(len(counts))]
    return [
        WatchedJob(penstock, bus, f"rolling-{pattern}", count, pattern, first)
        for (pattern, count), first in zip(counts.items(), firsts, strict=True)
    ]


@dataclass
class _Run:
    stack: ComposeStack
    model: ChaoticModel
    bus: Bus
    jobs: Sequence[WatchedJob]
    rounds: int
    say: Callable[[str], None]
    progress: Progress = field(default_factory=Progress)
    changes: list[Change] = field(default_factory=list)

    async def through(self) -> Outcome:
        began = self.progress.at = time.monotonic()
        self.model.allowed = 0
        for job in self.jobs:
            await job.submit()
        looking = asyncio.create_task(self._look())
        try:
            await self._change_everything()
            await self._until_reports()
            ended = time.monotonic()
        finally:
            looking.cancel()
        await until_quiet(self.bus, 120)
        return await self._outcome(ended - began)

    async def _change_everything(self) -> None:
        plan = [service for _ in range(self.rounds) for service in ORDER]
        items = sum(job.items for job in self.jobs)
        for done, service in enumerate(plan):
            self.model.allowed = items * (done + 1) / (len(plan) + 1)
            await self._let_it_work(items * done / (len(plan) + 1))
            before, started = self.progress.arrived, time.monotonic()
            self.progress.hit(service, kills=True)
            said = await asyncio.to_thread(self.stack.renew, service)
            change = Change(service, time.monotonic() - started, self.progress.arrived - before, said)
            self.changes.append(change)
            if said:
                self.say(f"{service} ended while it started: {said}")
            self.say(f"{service} is new after {change.seconds:.1f} s; {self.progress.arrived} of {items} have arrived")
        self.model.allowed = float("inf")

    async def _let_it_work(self, items: float) -> None:
        """Changes shall meet jobs that go on: wait until about so many have arrived."""
        while self.progress.arrived < 0.8 * items and not self._stuck:  # noqa: ASYNC110  # what we wait for is polled
            await asyncio.sleep(_LOOK_S)

    @property
    def _stuck(self) -> bool:
        return time.monotonic() - self.progress.at > _STUCK_S

    async def _until_reports(self) -> None:
        self.progress.at = time.monotonic()
        waiting = list(self.jobs)
        while waiting and not self._stuck:
            waiting = [job for job in waiting if await job.report() is None]
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            with suppress(*AWAY):  # nothing arrives meanwhile
                self.progress.saw(sum([await job.arrived() for job in self.jobs]))

    async def _outcome(self, seconds: float) -> Outcome:
        verdicts = {job.pattern: verdict(job.items, await job.found()) for job in self.jobs}
        dead = (await answered(self.bus.js.stream_info(DEAD.name))).state.messages
        why = Counter(reason for job in self.jobs for reason in reasons(job.shards))
        gap = self.progress.slowest_s
        return Outcome(verdicts, self.changes, self.model, seconds, gap, dead, dict(why.most_common(10)))


def summary(outcome: Outcome, items: int) -> dict[str, object]:
    """The last line. `sold_per_item`: whole answers of the model; an item of self-consistency needs several."""
    counts = {name: outcome.total(name) for name in ("submitted", "arrived", "lost", "doubled", "failed")}
    return counts | {
        "changes": len(outcome.changes),
        "longest_gap_s": round(outcome.longest_gap_s, 1),
        "seconds": round(outcome.seconds, 1),
        "calls_per_item": round(outcome.model.calls.total() / items, 4),
        "sold_per_item": round(outcome.model.sold.total() / items, 4),
        "dead_letters": outcome.dead_letters,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is replaced")
    given = parser.parse_args()
    if given.items < 10 or given.rounds < 1:
        parser.error("--items must be at least 10 and --rounds at least 1")
    if reason := no_engine():
        print(f"chaos-stack: {reason}", file=sys.stderr)
        return 1
    try:
        outcome = asyncio.run(_shown(given.items, given.rounds))
    except (PenstockError, StackFault) as error:
        print(f"chaos-stack: {error}", file=sys.stderr)
        return 1
    _show(outcome)
    print(json.dumps(summary(outcome, given.items)))
    return 0 if outcome.kept else 1


async def _shown(items: int, rounds: int) -> Outcome:
    screen = Console(stderr=True)
    model = chaotic(0, 0.0)
    with tempfile.TemporaryDirectory(prefix="penstock-rolling-") as folder:
        async with model.running(known_as=HOST), stack_with(model, Path(folder), "penstock-rolling") as stack:
            return await run(stack, model, items, rounds, lambda line: screen.print(line, highlight=False))


def _show(outcome: Outcome) -> None:
    console = Console()
    changes = Table("new containers of", "ready after s", "items meanwhile", title="Rolling restart under load")
    for change in outcome.changes:
        changes.add_row(change.service, f"{change.seconds:.1f}", str(change.arrived))
    jobs = Table("pattern", "submitted", "arrived", "lost", "doubled", "failed", title="What came out")
    for pattern, each in outcome.verdicts.items():
        row = (each.submitted, each.arrived, each.lost, each.doubled, each.failed)
        jobs.add_row(pattern, *map(str, row))
    console.print(changes, jobs)
    for change in outcome.changes:
        if change.said:
            console.print(
                f"{change.service} ended while it started, and was started again: {change.said}", markup=False
            )
    for reason, times in outcome.reasons.items():
        console.print(f"{times} items failed: {reason}", markup=False)
    for each in outcome.verdicts.values():
        for wrong in each.faults:
            console.print(f"BROKEN: {wrong}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
