"""How much longer a person waits while a large batch runs: `make bench-lanes`.

Starts an embedded stack, reads the sample library, asks questions one after the other over all hops, quiet first, then
with a batch of N questions (10,000) under way, and compares the p95. Where the time went is read from the audit log,
for both. The batch is cancelled when the questions are done. Exit code 1 where the p95 has grown by the limit or more.
The last line is JSON.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from client.client import Penstock, Receipt
from client.documents import find_documents, ingest
from client.stack.lifecycle import down, up
from contracts.item import Input
from contracts.job import Options
from loadtest import hops
from loadtest.bench_ask import LIBRARY, QUESTIONS, Asker, Incomplete
from loadtest.hops import percentile
from loadtest.visits import BATCH
from shared.errors import PenstockError

OPTIONS = Options(model="noop", when_ungrounded="mark", cache="off")

screen = Console(stderr=True)
tables = Console(width=None if sys.stdout.isatty() else 120)


class Round(msgspec.Struct):
    """What one round came to; milliseconds."""

    p50_ms: float
    p95_ms: float
    hops: list[hops.Share]


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-lanes-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            quiet, busy, arrived = asyncio.run(_bench(stack.nats_url, given.asks, given.items))
        except (PenstockError, Incomplete) as error:
            print(f"bench-lanes: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    growth = round(busy.p95_ms / quiet.p95_ms, 2)
    _show(quiet, busy)
    summary = {
        "asks": given.asks, "items": given.items, "arrived_meanwhile": arrived, "quiet_p50_ms": quiet.p50_ms,
        "quiet_p95_ms": quiet.p95_ms, "busy_p50_ms": busy.p50_ms, "busy_p95_ms": busy.p95_ms, "growth": growth,
        "limit": given.limit,
    }  # fmt: skip
    print(json.dumps(summary))
    return int(growth >= given.limit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asks", type=int, default=200, help="questions a round (default: %(default)s)")
    parser.add_argument("--items", type=int, default=10_000, help="items of the batch (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=2.0, help="what the p95 must not grow by (default: %(default)s)")
    given = parser.parse_args()
    if given.asks < 20 or given.items < 100:
        parser.error("--asks must be at least 20, --items at least 100")
    return given


async def _bench(url: str, asks: int, items: int) -> tuple[Round, Round, int]:
    """Quiet, busy, and how many items of the batch had arrived when the last question was answered."""
    async with await Penstock.connect(url) as penstock:
        report = await ingest(penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if report.failed:
            raise Incomplete(f"the sample library could not be read: {report.reasons}")
        asker = Asker(penstock)
        await asker.listen()
        await _round(penstock, asker, "warm", 20)
        with screen.status("asking, nothing else going on"):
            quiet = await _round(penstock, asker, "quiet", asks)
        receipt = await _submit(penstock, items)
        await _under_way(penstock, receipt)
        with screen.status(f"asking while {items:,} items are worked on"):
            busy = await _round(penstock, asker, "busy", asks)
        arrived = sum([tally.succeeded + tally.failed async for tally in penstock.tallies(receipt.job)])
        if arrived >= items:
            raise Incomplete(f"the batch of {items:,} was over before the questions were; take more --items")
        await penstock.cancel(receipt.job, "enough measured")
        return quiet, busy, arrived


async def _submit(penstock: Penstock, items: int) -> Receipt:
    questions = [Input(question=QUESTIONS[n % len(QUESTIONS)]) for n in range(items)]
    return await penstock.submit("rag", questions, OPTIONS, job=f"{BATCH}lanes", lane="batch")


async def _under_way(penstock: Penstock, receipt: Receipt) -> None:
    """Until the first shard is back: then all services are at work on the batch."""
    async for _ in penstock.results(receipt):
        return
    raise Incomplete("the batch was over at once; take more --items")


async def _round(penstock: Penstock, asker: Asker, name: str, asks: int) -> Round:
    jobs = [f"{name}-{n}" for n in range(asks)]
    times = [await asker.ask(job, QUESTIONS[n % len(QUESTIONS)]) for n, job in enumerate(jobs)]
    await asyncio.sleep(1)  # the last records
    mine = set(jobs)
    found = [hop for hop in await hops.read(penstock) if hop.job in mine]
    return Round(percentile(times, 0.5), percentile(times, 0.95), hops.shares(found))


def _show(quiet: Round, busy: Round) -> None:
    table = Table(title="an interactive ask, quiet and beside the batch", caption="p95, milliseconds")
    for column in ("service", "step", "queue quiet", "queue busy", "work quiet", "work busy"):
        table.add_column(column, justify="left" if column in ("service", "step") else "right")
    before = {(share.service, share.step): share for share in quiet.hops}
    for share in busy.hops:
        was = before.get((share.service, share.step), share)
        numbers: Sequence[float] = (was.queue_p95, share.queue_p95, was.work_p95, share.work_p95)
        table.add_row(share.service, share.step, *(f"{number:,.1f}" for number in numbers))
    table.add_row("all", "", "", "", f"{quiet.p95_ms:,.1f}", f"{busy.p95_ms:,.1f}")
    tables.print(table)


if __name__ == "__main__":
    sys.exit(main())
