"""One question at a time through all services, with a model that takes no time: what Penstock itself costs.

`make bench-ask`. Starts an embedded stack, reads the sample library, warms up, and asks questions of the pattern `rag`
with the model `noop`, one after the other: from publishing the job until its result is with the client, a plain
connection that listens to the results subject. Where the time goes is read from the audit log. The last line is JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from client.client import Penstock
from client.documents import find_documents, ingest
from client.stack.lifecycle import down, up
from contracts import subjects
from contracts.accounts import LIVE
from contracts.events import Hop
from contracts.job import JobReport, Options, ShardResult
from shared.errors import PenstockError

LIBRARY = Path(__file__).parents[1] / "samples" / "library"
QUESTIONS = (
    "Does plan HMO-483 cover physiotherapy after ACL surgery?",
    "How many days of annual leave may be carried over?",
    "What does a pH electrode cost?",
    "For how long are backups kept?",
    "Which services need prior authorization?",
    "Where do visitors park?",
    "What is the notice period during probation?",
    "How soon is a security incident reported?",
)
GIVE_UP_S = 30.0

screen = Console(stderr=True)


class Share(Struct, frozen=True):
    """Where a question's time goes: medians in milliseconds over all questions."""

    hop: int
    service: str
    steps: str
    queue_ms: float
    work_ms: float


class Incomplete(Exception):
    """A question got no answer; the numbers would mean nothing."""


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        data = Path(folder).resolve()
        try:
            with screen.status("starting NATS, Redis and the services"):
                stack = up(data)
            times, shares = asyncio.run(_bench(stack.nats_url, given.n, given.warm_up))
        except (PenstockError, Incomplete) as error:
            print(f"bench-ask: {error}", file=sys.stderr)
            return 1
        finally:
            down(data)
    summary = _summary(times, shares)
    if not given.json:
        _show(summary, shares)
    print(json.dumps(summary))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="questions (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=20, help="questions before that (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the JSON line only")
    given = parser.parse_args()
    if given.n < 1 or given.warm_up < 0:
        parser.error("--n must be at least 1, --warm-up at least 0")
    screen.quiet = given.json
    return given


async def _bench(url: str, n: int, warm_up: int) -> tuple[list[float], list[Share]]:
    """Milliseconds of each question, and where they went."""
    async with await Penstock.connect(url) as penstock:
        with screen.status("reading the sample library"):
            report = await ingest(penstock, find_documents([LIBRARY]), lambda: None, lambda _: None)
        if report.failed:
            raise Incomplete(f"the sample library could not be read: {report.reasons}")
        asker = Asker(penstock)
        await asker.listen()
        for i in range(warm_up):
            await asker.ask(f"warm-{i}", QUESTIONS[i % len(QUESTIONS)])
        jobs = [f"ask-{i}" for i in range(n)]
        times = [
            await asker.ask(job, QUESTIONS[i % len(QUESTIONS)])
            for i, job in enumerate(track(jobs, "asking", console=screen, transient=True))
        ]
        await penstock.report(jobs[-1], timeout_s=GIVE_UP_S)
        return times, _shares([await penstock.events(job) for job in jobs])


class Asker:
    """Publishes one question and waits until its result arrives."""

    def __init__(self, penstock: Penstock) -> None:
        self._penstock = penstock
        self._arrived: dict[str, asyncio.Future[tuple[float, Msg]]] = {}

    async def listen(self) -> None:
        place = subjects.result(self._penstock.tenant, "*", "*")
        await self._penstock.nc.subscribe(f"{LIVE}.{place}", cb=self._take)

    async def _take(self, message: Msg) -> None:
        *_, job, which = message.subject.split(".")
        waiting = self._arrived.get(job)
        refused = which == "done" and msgspec.json.decode(message.data, type=JobReport).state != "done"
        if waiting is not None and not waiting.done() and (which == "0" or refused):
            waiting.set_result((time.perf_counter(), message))

    async def ask(self, job: str, question: str) -> float:
        """Milliseconds from publishing until the result is here. Raises Incomplete where it is no answer."""
        payload = msgspec.json.encode(
            {
                "job": job,
                "items": [{"question": question}],
                "options": Options(model="noop", when_ungrounded="mark", cache="off"),
            }
        )
        self._arrived[job] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        await self._penstock.nc.publish(subjects.jobs(self._penstock.tenant, "rag"), payload)
        try:
            end, message = await asyncio.wait_for(self._arrived[job], GIVE_UP_S)
        except TimeoutError:
            raise Incomplete(f"no result of {job} within {GIVE_UP_S:.0f} s") from None
        _check(message)
        return (end - start) * 1000


def _check(message: Msg) -> None:
    if message.subject.endswith(".done"):
        raise Incomplete(msgspec.json.decode(message.data, type=JobReport).error)
    result = msgspec.json.decode(message.data, type=ShardResult).items[0]
    if result.answer is None:
        raise Incomplete(f"no answer to {result.question!r}: {result.failure}")


def _shares(jobs: list[list[Hop]]) -> list[Share]:
    """Hops in a row at one service are one delivery: it queued once, and worked on each step.

    The report is left out: it is written when the result is already there.
    """
    visits: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    for hops in jobs:
        ordered = sorted((hop for hop in hops if hop.step != "report"), key=lambda hop: (hop.hop, hop.at))
        for place, (service, visit) in enumerate(groupby(ordered, key=lambda hop: hop.service)):
            steps = list(visit)
            key = place, service, " + ".join(hop.step for hop in steps)
            visits.setdefault(key, []).append((steps[0].queued_ms, sum(hop.took_ms for hop in steps)))
    return [
        Share(place, service, names, _median([q for q, _ in spent]), _median([w for _, w in spent]))
        for (place, service, names), spent in sorted(visits.items())
        if len(spent) > len(jobs) / 2
    ]


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _summary(times: list[float], shares: list[Share]) -> dict[str, object]:
    ordered = sorted(times)
    p50 = statistics.median(ordered)
    known = sum(share.queue_ms + share.work_ms for share in shares)
    return {
        "asks": len(times),
        "p50_ms": round(p50, 2),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 2),
        "hops": [msgspec.to_builtins(share) for share in shares],
        "rest_ms": round(p50 - known, 2),
    }


def _show(summary: dict[str, object], shares: list[Share]) -> None:
    title = f"{summary['asks']} questions: p50 {summary['p50_ms']} ms, p95 {summary['p95_ms']} ms"
    table = Table(title=title, caption="medians; rest: publishing, storing, acknowledging, and the client")
    for column in ("service", "steps", "in the queue, ms", "at work, ms"):
        table.add_column(column, justify="right" if column.endswith("ms") else "left")
    for share in shares:
        table.add_row(share.service, share.steps, f"{share.queue_ms:.2f}", f"{share.work_ms:.2f}")
    table.add_row("rest", "", "", str(summary["rest_ms"]))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
