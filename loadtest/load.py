"""Mixed load on an embedded stack of its own, for a minute: `make load`, and `make load-limit P95_MS=…`.

Starts the stack in a temporary folder, reads the sample library, runs locust without its page, and prints p50, p95 and
p99 by lane and where the time went, hop by hop. With --p95-ms it looks for the most asks a second that keep their p95
under that many milliseconds. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from loadtest import hops
from loadtest.bench_ask import LIBRARY
from loadtest.search import STEPS, Step
from shared.errors import PenstockError

HERE = Path(__file__).parent
STOP_S = 60  # what users may take to finish what they have begun

screen = Console(stderr=True)
tables = Console(width=None if sys.stdout.isatty() else 120)


class Failed(Exception):
    """Locust did not run to its end."""


class Entry(Struct):
    """A line of locust's statistics, as its JSON has it."""

    method: str
    name: str
    num_requests: int
    num_failures: int
    response_times: dict[float, int]  # milliseconds as locust rounds them, and how often


class Lane(Struct, frozen=True):
    """What those who use a lane saw; milliseconds."""

    lane: str
    what: str
    done: int
    failures: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-load-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            asyncio.run(_read_library(stack.nats_url))
            summary = _limit(stack, given) if given.p95_ms else _load(stack, given)
        except (PenstockError, Failed) as error:
            print(f"load: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    print(json.dumps(summary))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--users", type=int, default=26, help="users at the same time (default: %(default)s)")
    parser.add_argument("--model", default="noop", help="the model that answers (default: %(default)s)")
    parser.add_argument("--p95-ms", type=float, help="look for the most asks a second that stay under this")
    parser.add_argument("--most", type=int, default=2048, help="of that: try no more asks a second than this")
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    given = parser.parse_args()
    if given.seconds < 1 or given.users < 1:
        parser.error("--seconds and --users must be at least 1")
    screen.quiet = given.json
    return given


async def _read_library(url: str) -> None:
    async with await Penstock.connect(url) as penstock:
        with screen.status("reading the sample library"):
            report = await ingest(penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
    if report.failed:
        raise Failed(f"the sample library could not be read: {report.reasons}")


def _load(stack: StackInfo, given: argparse.Namespace) -> dict[str, object]:
    rate = max(1, given.users // 2)
    time = ["-u", str(given.users), "-r", str(rate), "-t", f"{given.seconds}s", "--json", "--model", given.model]
    with screen.status(f"{given.users} users for {given.seconds} s"):
        entries = _entries(_locust(stack, "locustfile.py", time))
    lanes = _lanes(entries, given.seconds)
    where = asyncio.run(_hops(stack.nats_url))
    if not given.json:
        _show(lanes, where)
    return {
        "seconds": given.seconds,
        "users": given.users,
        "failures": sum(entry.num_failures for entry in entries),
        "lanes": [msgspec.to_builtins(lane) for lane in lanes],
        "hops": [msgspec.to_builtins(share) for share in where],
    }


def _limit(stack: StackInfo, given: argparse.Namespace) -> dict[str, object]:
    arguments = ["--p95-ms", str(given.p95_ms), "--most", str(given.most), "--model", given.model]
    printed = _locust(stack, "limit.py", arguments).splitlines()
    found = (line.removeprefix(STEPS) for line in printed if line.startswith(STEPS))
    steps = msgspec.json.decode(next(found, "[]"), type=list[Step])
    if not steps:
        raise Failed("locust tried no rate")
    good = [step for step in steps if step.good]
    if not given.json:
        _show_steps(steps, given.p95_ms)
    return {
        "p95_ms": given.p95_ms,
        "asks_per_s": max((step.rate for step in good), default=0),
        "steps": msgspec.to_builtins(steps),
    }


def _locust(stack: StackInfo, file: str, arguments: list[str]) -> str:
    """Run locust; returns what it prints to standard output. The address goes by environment: it holds a password."""
    command = [sys.executable, "-m", "locust", "-f", str(HERE / file), "--headless", "--only-summary", "--skip-log"]
    command += ["--stop-timeout", str(STOP_S), "--exit-code-on-error", "0", *arguments]
    environment = os.environ | {"PENSTOCK_NATS_URL": stack.nats_url, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=None if file == "limit.py" else subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise Failed(f"locust ended with {done.returncode}: {(done.stderr or '').strip()[-500:]}")
    return done.stdout


def _entries(printed: str) -> list[Entry]:
    entries = msgspec.json.decode(printed, type=list[Entry], strict=False)
    if not any(entry.num_requests > entry.num_failures for entry in entries):
        raise Failed(f"nothing succeeded: {[(entry.name, entry.num_failures) for entry in entries]}")
    return entries


def _lanes(entries: list[Entry], seconds: float) -> list[Lane]:
    """Each line of the statistics, and each lane as a whole: all answers and reports that people waited for."""
    lines = [_lane(entry.method, entry.name, [entry], seconds) for entry in sorted(entries, key=lambda e: e.name)]
    whole = []
    for lane in ("interactive", "batch"):
        waited = [
            entry for entry in entries if entry.method == lane and entry.name.endswith(("whole answer", "report"))
        ]
        whole.append(_lane(lane, "all", waited, seconds))
    return [*whole, *lines]


def _lane(lane: str, what: str, entries: list[Entry], seconds: float) -> Lane:
    times: Counter[float] = sum((Counter(entry.response_times) for entry in entries), Counter())
    failures = sum(entry.num_failures for entry in entries)
    done = sum(entry.num_requests for entry in entries) - failures
    p50, p95, p99 = (_percentile(times, share) for share in (0.5, 0.95, 0.99))
    return Lane(lane, what, done, failures, round(done / seconds, 1), p50, p95, p99)


def _percentile(times: "Counter[float]", share: float) -> float:
    left = times.total() * share
    for time in sorted(times):
        left -= times[time]
        if left <= 0:
            return time
    return 0.0


async def _hops(url: str) -> list[hops.Share]:
    async with await Penstock.connect(url) as penstock:
        found = await hops.read(penstock)
    library = {hop.job for hop in found if hop.service == "ingest"}
    return hops.shares(hop for hop in found if hop.job not in library)


def _show(lanes: list[Lane], where: list[hops.Share]) -> None:
    table = Table(title="what users waited for")
    for column in ("lane", "what", "done", "failed", "per s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="left" if column in ("lane", "what") else "right")
    for lane in lanes:
        numbers = (lane.done, lane.failures, lane.per_s, lane.p50_ms, lane.p95_ms, lane.p99_ms)
        table.add_row(lane.lane, lane.what, *(f"{number:,}" for number in numbers))
    tables.print(table)
    table = Table(title="where the time went: hops", caption="milliseconds; a hop is a shard of one item or of many")
    for column in ("lane", "service", "step", "hops", "queue p50", "queue p95", "work p50", "work p95", "again"):
        table.add_column(column, justify="left" if column in ("lane", "service", "step") else "right")
    for share in where:
        waits = (share.queue_p50, share.queue_p95, share.work_p50, share.work_p95)
        table.add_row(
            share.lane, share.service, share.step, str(share.hops), *(f"{ms:,.1f}" for ms in waits), str(share.retries)
        )
    tables.print(table)


def _show_steps(steps: list[Step], limit: float) -> None:
    table = Table(title=f"asks a second with a p95 under {limit:g} ms")
    for column in ("asked per s", "answered per s", "p95 ms", "failures", "good"):
        table.add_column(column, justify="right")
    for step in steps:
        numbers = (step.rate, step.answered_per_s, step.p95_ms, step.failures)
        table.add_row(*map(str, numbers), "yes" if step.good else "no")
    tables.print(table)


if __name__ == "__main__":
    sys.exit(main())
