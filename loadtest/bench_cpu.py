"""What an ask costs each process in processor time, and NATS in messages and bytes. For docs/scaling.md.

`make bench-cpu [N=400]`. Starts an embedded stack, reads the sample library, warms up, and asks questions of the
pattern `rag`, some at once: with the built-in reader, and with a model that takes no time. Processor time counts, not
the clock, so that other work on the machine disturbs little. The last line is JSON.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.js.api import StreamState
from rich.console import Console
from rich.progress import track
from rich.table import Table

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack.info import StackInfo
from client.stack.lifecycle import down, up
from client.stack.secrets import DEFAULT_TENANT
from contracts.accounts import queue
from contracts.job import Options
from contracts.subjects import BUCKETS, JOBS, STREAMS
from loadtest.bench_ask import LIBRARY, QUESTIONS
from loadtest.bench_million import cpu_seconds, resident
from shared.errors import PenstockError
from shared.streams import backing

WARM_UP = 40
AT_ONCE = 8
MODELS = ("extractive", "noop")

screen = Console(stderr=True)


@dataclass(frozen=True)
class Cost:
    """Of one ask: milliseconds of processor time by process, messages by stream, kilobytes that stay in streams."""

    model: str
    cpu_ms: dict[str, float]
    messages: dict[str, float]
    stored_kb: float

    @property
    def services_ms(self) -> float:
        return sum(ms for name, ms in self.cpu_ms.items() if name != "client")


async def measure(stack: StackInfo, model: str, n: int) -> Cost:
    async with await Penstock.connect(stack.nats_url) as client:
        await ask(client, model, WARM_UP)
        used, before = cpu_seconds(stack), await streams(stack)
        await ask(client, model, n)
        after, then = cpu_seconds(stack), await streams(stack)
    cpu = {name: round((after[name] - seconds) / n * 1000, 2) for name, seconds in sorted(used.items())}
    messages = {name: round((then[name].last_seq - state.last_seq) / n, 2) for name, state in before.items()}
    stored = sum(then[name].bytes - state.bytes for name, state in before.items())
    return Cost(model, cpu, {name: count for name, count in messages.items() if count}, round(stored / n / 1000, 1))


async def ask(client: Penstock, model: str, n: int) -> None:
    """So many questions, each another one to the caches; raises PenstockError where one gets neither answer nor
    refusal."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> None:
        async with gate:
            options = Options(model=model, when_ungrounded="mark")
            found = await client.ask(f"{QUESTIONS[index % len(QUESTIONS)]} ({index})", options=options)
        if found.answer is None and (found.failure is None or found.failure.code == "internal"):
            raise PenstockError(f"question {index}: {found.failure}")

    asking = [asyncio.create_task(one(index)) for index in range(n)]
    for task in track(asyncio.as_completed(asking), f"{n} asks, {model}", total=n, console=screen, transient=True):
        await task


async def streams(stack: StackInfo) -> dict[str, StreamState]:
    """All streams and buckets of the services' account; the tenant's copies of RESULTS and EVENTS come on top."""
    nc = await nats.connect(stack.operator_url)
    js = nc.jetstream()
    names = [queue(DEFAULT_TENANT).name if stream is JOBS else stream.name for stream in STREAMS]
    states = {name: (await js.stream_info(name)).state for name in [*names, *map(backing, BUCKETS)]}
    await nc.close()
    return states


async def bench(stack: StackInfo, n: int) -> list[Cost]:
    async with await Penstock.connect(stack.nats_url) as client:
        await ingest(client, find_documents([LIBRARY]), lambda: None, lambda _: None)
    return [await measure(stack, model, n) for model in MODELS]


def show(costs: list[Cost], memory: dict[str, float]) -> None:
    table = Table(title="Milliseconds of processor time an ask")
    table.add_column("process")
    for cost in costs:
        table.add_column(cost.model, justify="right")
    table.add_column("resident MB", justify="right")
    for name in costs[0].cpu_ms:
        table.add_row(name, *(f"{cost.cpu_ms[name]:.2f}" for cost in costs), f"{memory[name]:,.0f}")
    table.add_row("all but the client", *(f"{cost.services_ms:.2f}" for cost in costs), "")
    table.add_row("kB stored", *(f"{cost.stored_kb:.1f}" for cost in costs), "")
    Console().print(table)
    for cost in costs:
        told = ", ".join(f"{name} {count:g}" for name, count in cost.messages.items())
        Console().print(f"messages an ask, {cost.model}: {told}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=400, help="asks (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-cpu-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            costs = asyncio.run(bench(stack, given.n))
            memory = resident(stack)
        except PenstockError as error:
            print(f"bench-cpu: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    show(costs, memory)
    print(
        json.dumps(
            {
                "asks": given.n,
                "cpu_ms": {cost.model: cost.cpu_ms for cost in costs},
                "services_ms": {cost.model: round(cost.services_ms, 2) for cost in costs},
                "messages": {cost.model: cost.messages for cost in costs},
                "stored_kb": {cost.model: cost.stored_kb for cost in costs},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
