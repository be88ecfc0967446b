"""What telemetry costs: no-op items with all of it on, beside the same with all of it off.

`make bench-telemetry [N=150000]`. Two embedded stacks: one exports every span and metric over OTLP to a process that
throws them away, and logs JSON; the other exports nothing. Both write the audit log, which belongs to the product.
Rounds are interleaved, after a warm-up; the ratio is that of processor time over all processes, which other work on
the machine disturbs less than the clock; the speeds stand beside it. The last line is JSON. Ends with 1 where it costs
more than `--most`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from client.stack.ports import free_ports
from loadtest.bench_million import cpu_seconds
from loadtest.fanout import ours
from loadtest.fanout.system import Incomplete
from shared.errors import PenstockError

screen = Console(stderr=True)


@dataclass
class Side:
    """One of the two stacks, and what its rounds took: items a second, microseconds of processor time an item."""

    title: str
    stack: StackInfo
    speeds: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def measure(self, n: int) -> None:
        before = cpu_seconds(self.stack)
        self.speeds.append(ours.measure(self.stack, n).per_second)
        after = cpu_seconds(self.stack)
        used = sum(after[name] - seconds for name, seconds in before.items() if name != "client")
        self.cpu_us.append(used / n * 1e6)


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """What a stack that is started meanwhile sees, and nothing of the caller's own settings."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def sink() -> Iterator[str]:
    """A receiver in a process of its own; its address."""
    (port,) = free_ports((0,))
    process = subprocess.Popen([sys.executable, "-m", "loadtest.otlp_sink", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def stack(folder: Path, settings: Mapping[str, str]) -> Iterator[StackInfo]:
    try:
        with environment(settings):
            found = up(folder)
        yield found
    finally:
        down(folder)


def bench(n: int, rounds: int) -> tuple[Side, Side]:
    with tempfile.TemporaryDirectory(prefix="penstock-telemetry-") as folder, sink() as url:
        data = Path(folder).resolve()
        on = {"PENSTOCK_OTLP": url, "PENSTOCK_LOG_FORMAT": "json"}
        with stack(data / "on", on) as watched, stack(data / "off", {}) as plain:
            sides = Side("everything on", watched), Side("off", plain)
            for side in sides:
                ours.measure(side.stack, n)
            for turn in range(rounds):
                for side in sides if turn % 2 else sides[::-1]:
                    with screen.status(f"round {turn + 1} of {rounds}: {side.title}"):
                        side.measure(n)
            return sides


def show(sides: tuple[Side, Side], n: int) -> None:
    table = Table(title=f"{n:,} no-op items, medians of {len(sides[0].speeds)} rounds")
    for column in ("telemetry", "items/s", "µs of processor time an item"):
        table.add_column(column, justify="left" if column == "telemetry" else "right")
    for side in sides:
        table.add_row(side.title, f"{statistics.median(side.speeds):,.0f}", f"{statistics.median(side.cpu_us):.1f}")
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=150_000, help="items a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="of each side (default: %(default)s)")
    parser.add_argument("--most", type=float, default=0.05, help="share that it may cost (default: %(default)s)")
    given = parser.parse_args()
    try:
        sides = bench(given.n, given.rounds)
    except (Incomplete, PenstockError) as error:
        print(f"bench-telemetry: {error}", file=sys.stderr)
        return 1
    show(sides, given.n)
    on, off = (statistics.median(side.cpu_us) for side in sides)
    speed_on, speed_off = (statistics.median(side.speeds) for side in sides)
    cost = on / off - 1
    summary = {
        "n": given.n, "rounds": given.rounds, "cpu_us_on": round(on, 2), "cpu_us_off": round(off, 2),
        "items_per_s_on": round(speed_on, 1), "items_per_s_off": round(speed_off, 1),
        "cost": round(cost, 4), "speed_ratio": round(speed_on / speed_off, 4),
    }  # fmt: skip
    print(json.dumps(summary))
    return 0 if cost <= given.most else 1


if __name__ == "__main__":
    sys.exit(main())
