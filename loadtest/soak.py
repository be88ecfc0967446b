"""Mixed load for a long time, and whether any process of the stack grows: `make soak [MINUTES=30]`.

Starts an embedded stack, reads the sample library, and lets people ask, read along and publish batches all the while.
The resident memory of every process is sampled; what counts as growing, and how sure that is, stands in `slope.py`.
NATS keeps the subject of every message in memory for as long as the message is kept, a week for results. So that this
is level within the run, results, arrivals and events are kept for a tenth of it (two minutes at least).
Exit code 1 where a process grows, ends, or an answer fails. The last line is JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import nats
import psutil
from rich.console import Console
from rich.table import Table

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from client.stack.secrets import DEFAULT_TENANT
from contracts.accounts import COPIES, api
from contracts.job import Options
from contracts.subjects import EVENTS, GROUPS, RESULTS
from loadtest.bench_ask import LIBRARY, Incomplete
from loadtest.slope import Slope, slope
from loadtest.visits import Plan, Timing, ask, batch, stream
from shared.errors import PenstockError

Visit = Callable[[Penstock, Plan], Coroutine[Any, Any, list[Timing]]]
USERS: tuple[tuple[Visit, int, float], ...] = ((ask, 4, 0.5), (stream, 3, 0.5), (batch, 1, 2.0))
"""What they do, how many of them, and their pause in seconds, drawn around this."""
PLAN = Plan(options=Options(model="noop", when_ungrounded="mark"), batch_items=100)
KEPT = 0.1  # of the time
SAMPLES = 200  # at least so many, and at least one in five seconds

screen = Console(stderr=True)
tables = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Seen:
    """What came of it so far."""

    visits: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # seconds, megabytes


def main() -> int:
    given = _arguments()
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="penstock-soak-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            asyncio.run(_soak(stack, given.minutes * 60, seen))
        except (PenstockError, Incomplete) as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    slopes = {name: slope(samples) for name, samples in seen.memory.items()}
    _show(slopes, given.minutes)
    growing = [name for name, found in slopes.items() if found.grows]
    for line in seen.failures[:10]:
        print(f"soak: {line}", file=sys.stderr)
    summary = {
        "minutes": given.minutes, "visits": seen.visits, "failures": len(seen.failures), "growing": growing,
        "processes": {name: msgspec.to_builtins(found) for name, found in slopes.items()},
    }  # fmt: skip
    print(json.dumps(summary))
    return int(bool(growing or seen.failures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: %(default)s)")
    given = parser.parse_args()
    if given.minutes < 0.5:
        parser.error("--minutes must be at least 0.5")
    return given


async def _keep_for(stack: StackInfo, seconds: float) -> None:
    """Let the streams that only grow older forget what is older than this."""
    connection = await nats.connect(stack.operator_url)
    ours, theirs = connection.jetstream(), connection.jetstream(prefix=api(DEFAULT_TENANT))
    for jetstream, streams in ((ours, (RESULTS, GROUPS, EVENTS)), (theirs, COPIES)):
        for each in streams:
            config = (await jetstream.stream_info(each.name)).config
            await jetstream.update_stream(config, max_age=max(seconds, config.duplicate_window or 0))
    await connection.close()


async def _soak(stack: StackInfo, seconds: float, seen: Seen) -> None:
    await _keep_for(stack, seconds * KEPT)
    async with await Penstock.connect(stack.nats_url) as penstock:
        report = await ingest(penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if report.failed:
            raise Incomplete(f"the sample library could not be read: {report.reasons}")
        end = time.monotonic() + seconds
        users = [_user(penstock, visit, pause, end, seen) for visit, number, pause in USERS for _ in range(number)]
        with screen.status(f"{len(users)} users for {seconds / 60:g} min"):
            await asyncio.gather(_sample(stack, seconds, end, seen), *users)


async def _user(penstock: Penstock, visit: Visit, pause: float, end: float, seen: Seen) -> None:
    while time.monotonic() < end:
        try:
            await visit(penstock, PLAN)
        except PenstockError as error:
            seen.failures.append(f"{visit.__name__}: {error}")
        seen.visits[visit.__name__] = seen.visits.get(visit.__name__, 0) + 1
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)


async def _sample(stack: StackInfo, seconds: float, end: float, seen: Seen) -> None:
    began = time.monotonic()
    while time.monotonic() < end:
        for name, pid in stack.pids.items():
            try:
                rss = psutil.Process(pid).memory_info().rss
            except psutil.Error:
                raise Incomplete(f"{name} has ended, see its log; it may have been started again") from None
            seen.memory.setdefault(name, []).append((time.monotonic() - began, rss / 2**20))
        await asyncio.sleep(min(5.0, seconds / SAMPLES))


def _show(slopes: dict[str, Slope], minutes: float) -> None:
    table = Table(title=f"resident memory over {minutes:g} min, without the first fifth", caption="MB; interval: 95 %")
    for column in ("process", "begin", "end", "MB/h", "interval", "grows"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for name, found in slopes.items():
        interval = f"{found.low:+,.1f} … {found.high:+,.1f}"
        row = (f"{found.begin_mb:,.1f}", f"{found.end_mb:,.1f}", f"{found.mb_per_h:+,.1f}", interval)
        table.add_row(name, *row, "yes" if found.grows else "no")
    tables.print(table)


if __name__ == "__main__":
    sys.exit(main())
