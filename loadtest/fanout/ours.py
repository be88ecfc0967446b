"""Penstock itself, over a plain NATS connection: JetStream hops, groups in Redis, results stored, report written."""

import asyncio
import time

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from client.stack.info import StackInfo
from contracts import subjects
from contracts.accounts import LIVE
from contracts.job import JobReport, ShardResult
from loadtest.fanout.system import Incomplete, Measured

TENANT = "default"
PATTERN = "noop"
WARM_UP = 300
GIVE_UP_S = 300.0


class _Results:
    """Collects what arrives for one job; `complete` is set when report and all items are here."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.seen: set[int] = set()
        self.report: JobReport | None = None
        self.complete = asyncio.Event()

    async def take(self, message: Msg) -> None:
        last = message.subject.rsplit(".", maxsplit=1)[-1]
        if last == "done":
            self.report = msgspec.json.decode(message.data, type=JobReport)
        elif last.isdigit():
            self.seen |= {item.n for item in msgspec.json.decode(message.data, type=ShardResult).items}
        failed_early = self.report is not None and self.report.succeeded < self._n
        if failed_early or (self.report is not None and len(self.seen) == self._n):
            self.complete.set()


def measure(stack: StackInfo, n: int) -> Measured:
    """From publishing the job until its report and all its results are with the client."""
    return asyncio.run(_measure(stack.nats_url, n))


async def _measure(url: str, n: int) -> Measured:
    connection = await nats.connect(url)
    try:
        await _run(connection, WARM_UP)
        return Measured(n, await _run(connection, n))
    finally:
        await connection.close()


async def _run(connection: Client, n: int) -> float:
    job = f"fanout-{time.time_ns()}"
    results = _Results(n)
    subscription = await connection.subscribe(f"{LIVE}.{subjects.result(TENANT, job, '*')}", cb=results.take)
    submission = msgspec.json.encode({"job": job, "items": [{"question": f"item {i}"} for i in range(n)]})
    start = time.perf_counter()
    await connection.jetstream().publish(subjects.jobs(TENANT, PATTERN), submission)
    try:
        await asyncio.wait_for(results.complete.wait(), GIVE_UP_S)
    except TimeoutError:
        raise Incomplete(f"{len(results.seen)} of {n} results within {GIVE_UP_S:.0f} s") from None
    seconds = time.perf_counter() - start
    await subscription.unsubscribe()
    _check(results, n)
    return seconds


def _check(results: _Results, n: int) -> None:
    report = results.report
    if report is None or (report.state, report.size, report.succeeded) != ("done", n, n):
        raise Incomplete(f"the report does not say that all {n} succeeded: {report}")
