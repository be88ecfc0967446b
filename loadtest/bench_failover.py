"""How asks fare while a provider fails: `make bench-failover`.

Starts an embedded stack whose model `large` and its backup `spare` are scripted endpoints, and asks N questions
(2,000) at a steady rate, whatever the answers take. Meanwhile the provider has an outage, a storm of 429, is slow,
hangs, and in the end both are away; between these it is well. Printed for each phase: answers by rung, how long it
took until the rung answered that should, and the latency. Exit code 1 where less than 99.9 % of the asks got an
answer, or one was lost. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import msgspec
import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from client.stack.lifecycle import down, up
from contracts import subjects
from contracts.job import ItemResult
from loadtest.failover_phases import PHASES, Asked, Line, lines, phase_at, summary
from loadtest.scripted_model import Call, Reply, ScriptedModel
from shared.errors import PenstockError

GOAL = 0.999
REPLY_S = 60.0
WARM_UP = 40
QUESTION = "How many characters must a password have?"
CONTEXT = "Rules for passwords. A password must have at least fourteen characters. It is changed once a year."

MODELS = """
models:
  - name: large
    engine: openai
    base_url: {large}
    id: large
    default: true
    fallback: [spare, extractive]
  - {{name: spare, engine: openai, base_url: "{spare}", id: spare}}
  - {{name: extractive, engine: extractive}}
  - {{name: noop, engine: noop}}
"""

screen = Console(stderr=True)


class Provider:
    """Plays the phases on both endpoints."""

    def __init__(self, large: ScriptedModel, spare: ScriptedModel) -> None:
        self._turn = count()
        self.phase = PHASES[0]
        large.answer = lambda call: self._say(self.phase.large, call)
        spare.answer = lambda call: self._say(self.phase.spare, call)

    async def _say(self, replies: Sequence[Reply], call: Call) -> Reply:
        return replies[next(self._turn) % len(replies)]


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-failover-") as folder:
        try:
            asked, starts = asyncio.run(_bench(Path(folder).resolve(), given.n, given.rate))
        except PenstockError as error:
            print(f"bench-failover: {error}", file=sys.stderr)
            return 1
    found = lines(asked, starts)
    _show(found)
    result = summary(asked, found) | {"rate": given.rate}
    print(json.dumps(result))
    good = sum(bool(one.rung) for one in asked) >= GOAL * len(asked) and all(one.replied is not None for one in asked)
    return int(not good)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="asks (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=15.0, help="asks a second (default: %(default)s)")
    given = parser.parse_args()
    if given.n < 10 * len(PHASES) or given.rate <= 0:
        parser.error(f"--n must be at least {10 * len(PHASES)}, --rate more than 0")
    return given


async def _bench(folder: Path, n: int, rate: float) -> tuple[list[Asked], list[float]]:
    """All asks, and when each phase began."""
    data, models = folder / "data", folder / "models.yaml"
    async with ScriptedModel.running() as large, ScriptedModel.running() as spare:
        models.write_text(MODELS.format(large=large.url, spare=spare.url))
        os.environ["PENSTOCK_MODELS"] = str(models)
        provider = Provider(large, spare)
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = await asyncio.to_thread(up, data)
            nc = await nats.connect(stack.nats_url)
            try:
                return await _run(nc, provider, n, rate)
            finally:
                await nc.close()
        finally:
            await asyncio.to_thread(down, data)


async def _run(nc: Client, provider: Provider, n: int, rate: float) -> tuple[list[Asked], list[float]]:
    for _ in range(WARM_UP):
        await _ask(nc, 0, time.monotonic())
    began = time.monotonic()
    starts: list[float] = []
    asks: list[asyncio.Task[Asked]] = []
    with Progress(console=screen, transient=True) as progress:
        bar = progress.add_task("asking", total=n)
        for i in range(n):
            place = phase_at(i / n)
            if place == len(starts):
                provider.phase = PHASES[place]
                starts.append(time.monotonic() - began)
                progress.update(bar, description=provider.phase.name)
            asks.append(asyncio.create_task(_ask(nc, place, began)))
            progress.advance(bar)
            await asyncio.sleep(max(0.0, began + (i + 1) / rate - time.monotonic()))
        return list(await asyncio.gather(*asks)), starts


async def _ask(nc: Client, place: int, began: float) -> Asked:
    """One ask by NATS request; its answer is the reply."""
    payload = msgspec.json.encode({"question": QUESTION, "context": CONTEXT})
    sent = time.monotonic() - began
    try:
        reply = await nc.request(subjects.ask("default", "direct"), payload, timeout=REPLY_S)
    except NatsError as error:
        return Asked(place, sent, None, reason=type(error).__name__)
    result = msgspec.json.decode(reply.data, type=ItemResult)
    replied = time.monotonic() - began
    if result.answer is not None:
        return Asked(place, sent, replied, result.answer.rung)
    return Asked(place, sent, replied, reason=result.failure.reason if result.failure else "no answer")


def _show(found: Sequence[Line]) -> None:
    table = Table(title="Asks while a provider fails")
    for name in ("phase", "asks", "primary", "backup", "degraded", "failed", "lost", "s until", "p50, ms", "p95, ms"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for line in found:
        by = [str(line.rungs.get(rung, "")) for rung in ("primary", "backup", "degraded")]
        after = "–" if line.after_s is None else f"{line.after_s:.2f}"
        row = (line.name, str(line.asks), *by, str(line.failed or ""), str(line.lost or ""), after)
        table.add_row(*row, f"{line.p50_ms:.0f}", f"{line.p95_ms:.0f}")
    table.caption = "s until: from the phase's start until the rung answered that should"
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
