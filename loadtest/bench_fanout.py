"""N no-op items from submission to all results: Penstock beside Celery, taskiq and bare NATS, on the same servers.

`make bench-fanout [N=5000]`. Every system has two worker processes of its own kind (Penstock: its seven services), is
warmed up and then measured until the client holds all N results, which are checked. Rounds are interleaved, the median
counts. The last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.errors import StackError
from client.stack.config import SERVICES
from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from loadtest.fanout import ours, peers, raw
from loadtest.fanout.system import Incomplete, Measured, System

SLOW_FROM = 1000
SYSTEMS = (
    System("ours", "Penstock", ours.measure),
    System("celery", "Celery chord (Redis)", peers.celery, slow=True),
    System("taskiq", "taskiq-nats", peers.taskiq),
    System("celery_sharded", f"Celery chord, {peers.SHARD} items a task", peers.celery_sharded),
    System("taskiq_sharded", f"taskiq-nats, {peers.SHARD} items a task", peers.taskiq_sharded),
    System("raw_nats", "nats-py alone, a message an item", raw.measure),
)
Numbers = dict[str, list[Measured]]

screen = Console(stderr=True)


def main() -> int:
    given = _arguments()
    chosen = [system for system in SYSTEMS if system.name in given.systems]
    try:
        _prepare_peers(chosen)
        with _stack(chosen) as stack:
            numbers = _measure(stack, chosen, given.n, given.rounds)
    except (Incomplete, StackError, subprocess.CalledProcessError) as error:
        print(f"bench-fanout: {error}", file=sys.stderr)
        return 1
    if not given.json:
        _show(chosen, numbers, given.n)
    print(json.dumps(_summary(numbers, given.n, given.rounds)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="items (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    given = parser.parse_args()
    if given.n < 1 or given.rounds < 1:
        parser.error("--n and --rounds must be at least 1")
    screen.quiet = given.json
    return given


def _prepare_peers(chosen: list[System]) -> None:
    if any(system.name.startswith(("celery", "taskiq")) for system in chosen) and not peers.is_ready():
        with screen.status("installing Celery and taskiq into .venv-peers (once)"):
            peers.install()


@contextmanager
def _stack(chosen: list[System]) -> Iterator[StackInfo]:
    """An embedded stack in a folder of its own; its services only where they are measured."""
    services = SERVICES if any(system.name == "ours" for system in chosen) else {}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data, services=services)
            yield stack
        finally:
            down(data)


def _measure(stack: StackInfo, chosen: list[System], n: int, rounds: int) -> Numbers:
    numbers: Numbers = {system.name: [] for system in chosen}
    for turn in range(1, rounds + 1):
        for system in chosen:
            if system.slow and n >= SLOW_FROM and turn > 1:
                continue
            with screen.status(f"round {turn} of {rounds}: {system.title}"):
                measured = system.measure(stack, n)
            numbers[system.name].append(measured)
            screen.print(f"  round {turn}  {system.title:<32} {measured.per_second:>9,.0f} items/s")
    return numbers


def _median(measured: list[Measured]) -> float:
    return statistics.median(one.per_second for one in measured)


def _summary(numbers: Numbers, n: int, rounds: int) -> dict[str, object]:
    speed = {name: round(_median(measured), 1) for name, measured in numbers.items()}
    summary: dict[str, object] = {"n": n, "rounds": rounds, "items_per_s": speed}
    for peer in ("celery", "taskiq", "celery_sharded", "taskiq_sharded"):
        if "ours" in speed and peer in speed:
            summary[f"ratio_{peer}"] = round(speed["ours"] / speed[peer], 2)
    return summary


def _show(chosen: list[System], numbers: Numbers, n: int) -> None:
    table = Table(title=f"{n:,} no-op items, from submission to all results")
    for column in ("system", "items/s", "seconds", "Penstock is", "rounds"):
        table.add_column(column, justify="left" if column == "system" else "right", no_wrap=True)
    own = _median(numbers["ours"]) if numbers.get("ours") else None
    for system in chosen:
        speed = _median(numbers[system.name])
        factor = f"{own / speed:.1f} ×" if own and system.name != "ours" else ""
        table.add_row(system.title, f"{speed:,.0f}", f"{n / speed:.2f}", factor, str(len(numbers[system.name])))
    Console().print(table)
    if any(len(numbers[system.name]) < len(numbers[chosen[-1].name]) for system in chosen):
        Console().print("Celery's chord of single items takes so long that it was measured in one round only.")


if __name__ == "__main__":
    sys.exit(main())
