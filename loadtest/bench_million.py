"""A job of a million no-op items through the embedded stack: it opens in windows, so memory stays flat.

`make bench-million [N=1000000]`. Measures items/s at 50,000 and at N in one run, the memory of every process of the
stack when 10, 50 and 90 % of the items have arrived, and where the time goes: processor time an item, by process.
Every item is counted once, by number. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct
from nats.aio.msg import Msg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from client.client import Penstock
from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from contracts import subjects
from contracts.accounts import LIVE
from contracts.job import Job, JobReport, ShardResult
from loadtest.fanout.system import Incomplete, Measured
from shared.errors import PenstockError

PATTERN = "noop"
WARM_UP, FEW = 300, 50_000
SAMPLES = (0.1, 0.5, 0.9)
GIVE_UP_S = 1800.0

screen = Console(stderr=True)


class Load(Struct, frozen=True):
    """What the many cost a process: resident megabytes at each sample, and microseconds of processor time an item."""

    process: str
    rss_mb: list[float]
    us_per_item: float

    @property
    def growth(self) -> float:
        """The last sample as a multiple of the first."""
        return self.rss_mb[-1] / max(self.rss_mb[0], 1.0)


class Arrivals:
    """Which items of a job have come, each by its number; samples memory on the way."""

    def __init__(self, n: int, stack: StackInfo, progress: Progress) -> None:
        self._seen = bytearray(n)
        self._stack = stack
        self._progress = progress
        self._bar = progress.add_task(f"{n:,} items", total=n)
        self.arrived = 0
        self.doubled = 0
        self.samples: list[dict[str, float]] = []
        self.report: JobReport | None = None
        self.complete = asyncio.Event()

    async def take(self, message: Msg) -> None:
        last = message.subject.rpartition(".")[2]
        if last == "done":
            self.report = msgspec.json.decode(message.data, type=JobReport)
        elif last.isdigit():
            self._count(msgspec.json.decode(message.data, type=ShardResult))
        if self.report is not None and (self.arrived == len(self._seen) or self.report.succeeded < len(self._seen)):
            self.complete.set()

    def _count(self, shard: ShardResult) -> None:
        for item in shard.items:
            self.doubled += self._seen[item.n]
            self.arrived += 1 - self._seen[item.n]
            self._seen[item.n] = 1
        self._progress.update(self._bar, completed=self.arrived)
        if len(self.samples) < len(SAMPLES) and self.arrived >= SAMPLES[len(self.samples)] * len(self._seen):
            self.samples.append(resident(self._stack))


def resident(stack: StackInfo) -> dict[str, float]:
    """Resident megabytes of each process of the stack."""
    pids = {**stack.pids, "client": os.getpid()}
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items()}


def cpu_seconds(stack: StackInfo) -> dict[str, float]:
    """Processor time that each process has used, and this one, the client."""
    pids = {**stack.pids, "client": os.getpid()}
    return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


async def run(client: Penstock, stack: StackInfo, n: int, progress: Progress) -> tuple[Measured, Arrivals]:
    """One job, from publishing it until report and all results are here. Raises Incomplete."""
    job = f"million-{time.time_ns()}"
    arrivals = Arrivals(n, stack, progress)
    claim = await client.upload(b"\n".join(b'{"question":"item %d"}' % i for i in range(n)))
    subscription = await client.nc.subscribe(f"{LIVE}.{subjects.result(client.tenant, job, '*')}", cb=arrivals.take)
    start = time.perf_counter()
    await client.nc.jetstream().publish(
        subjects.jobs(client.tenant, PATTERN), msgspec.json.encode(Job(job=job, items_claim=claim))
    )
    try:
        await asyncio.wait_for(arrivals.complete.wait(), GIVE_UP_S)
    except TimeoutError:
        raise Incomplete(f"{arrivals.arrived:,} of {n:,} results within {GIVE_UP_S:.0f} s") from None
    measured = Measured(n, time.perf_counter() - start)
    await subscription.unsubscribe()
    report = arrivals.report
    if report is None or (report.size, report.succeeded, arrivals.doubled) != (n, n, 0):
        raise Incomplete(f"not every item came once: {arrivals.doubled} doubled, report {report}")
    return measured, arrivals


async def bench(stack: StackInfo, n: int) -> tuple[Measured, Measured, list[Load]]:
    """The few, the many, and what the many cost each process."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with await Penstock.connect(stack.nats_url) as client:
        with Progress(*columns, console=screen) as progress:
            await run(client, stack, WARM_UP, progress)
            few, _ = await run(client, stack, min(FEW, n), progress)
            before = cpu_seconds(stack)
            many, arrivals = await run(client, stack, n, progress)
            after = cpu_seconds(stack)
    return (
        few,
        many,
        [
            Load(
                name, [round(sample[name], 1) for sample in arrivals.samples], round((after[name] - used) / n * 1e6, 1)
            )
            for name, used in sorted(before.items())
        ],
    )


def show(few: Measured, many: Measured, loads: Sequence[Load]) -> None:
    table = Table(title=f"resident MB while {many.items:,} items pass at {many.per_second:,.0f} items/s")
    table.add_column("process")
    for share in SAMPLES:
        table.add_column(f"{share:.0%}", justify="right")
    table.add_column("µs an item", justify="right")
    for one in loads:
        table.add_row(one.process, *(f"{mb:,.0f}" for mb in one.rss_mb), f"{one.us_per_item:.1f}")
    screen.print(table)
    screen.print(f"{few.items:,} items: {few.per_second:,.0f} items/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="items (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-million-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            few, many, loads = asyncio.run(bench(stack, given.n))
        except (Incomplete, PenstockError) as error:
            print(f"bench-million: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    show(few, many, loads)
    print(
        json.dumps(
            {
                "items": many.items,
                "items_per_s": round(many.per_second, 1),
                "items_per_s_at_50000": round(few.per_second, 1),
                "ratio": round(many.per_second / few.per_second, 3),
                "us_per_item": {one.process: one.us_per_item for one in loads},
                "rss_mb": {one.process: one.rss_mb for one in loads},
                "most_growth": round(max(one.growth for one in loads), 3),  # the client's included
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
