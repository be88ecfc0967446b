"""What a load user does once, and what of it is measured. Plain asyncio: nothing here knows of locust."""

import asyncio
import random
import time
from dataclasses import dataclass, field

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from client.client import Penstock
from client.submission import new_job_id
from contracts import subjects
from contracts.item import Failure, Input
from contracts.job import ItemResult, Options
from loadtest.bench_ask import QUESTIONS
from shared.errors import PenstockError

ASK, FIRST, WHOLE = "ask: whole answer", "stream: first token", "stream: whole answer"
ACCEPTED, REPORT = "batch: accepted", "batch: report"
BATCH = "load-batch-"
"""How ids of batch jobs begin, so that their hops can be told from those of people who wait."""


class Unanswered(PenstockError):
    """The stack answered with a failure, or not at all; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What is asked."""

    pattern: str = "rag"
    options: Options = field(default_factory=Options)
    batch_items: int = 150
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Timing:
    """One entry for the statistics."""

    name: str
    ms: float
    size: int = 0  # bytes


async def ask(penstock: Penstock, plan: Plan) -> list[Timing]:
    """A question by NATS request. Raises Unanswered."""
    payload = {"items": [_question()], "options": plan.options}
    began = time.perf_counter()
    try:
        subject = subjects.ask(penstock.tenant, plan.pattern)
        reply = await penstock.nc.request(subject, msgspec.json.encode(payload), timeout=plan.timeout_s)
    except NatsError as error:
        raise Unanswered(f"no reply: {type(error).__name__}") from None
    took = _ms(began)
    _check(msgspec.json.decode(reply.data, type=ItemResult).failure)
    return [Timing(ASK, took, len(reply.data))]


async def stream(penstock: Penstock, plan: Plan) -> list[Timing]:
    """A question whose answer is read token by token, then whole. Raises Unanswered."""
    job = new_job_id()
    first: list[float] = []

    async def note(_: Msg) -> None:
        if not first:
            first.append(_ms(began))

    tokens = await penstock.nc.subscribe(subjects.tokens(penstock.tenant, job, "*"), cb=note)
    began = time.perf_counter()
    try:
        options = msgspec.structs.replace(plan.options, stream=True)
        question = _question().question
        result = await penstock.ask(question, plan.pattern, options=options, timeout_s=plan.timeout_s, job=job)
        took = _ms(began)
    finally:
        await tokens.unsubscribe()
    _check(result.failure)
    whole = Timing(WHOLE, took, len(result.answer.text) if result.answer else 0)
    return [*(Timing(FIRST, ms) for ms in first), whole]


async def batch(penstock: Penstock, plan: Plan) -> list[Timing]:
    """A job of many items, until its report. Raises Unanswered."""
    items = [_question() for _ in range(plan.batch_items)]
    began = time.perf_counter()
    receipt = await penstock.submit(plan.pattern, items, plan.options, job=BATCH + new_job_id())
    accepted = _ms(began)
    report = await penstock.report(receipt, timeout_s=plan.timeout_s)
    took = _ms(began)
    if report.failed or report.succeeded != len(items):
        raise Unanswered(f"{report.state}: {report.succeeded} of {len(items)} succeeded, {report.reasons}")
    return [Timing(ACCEPTED, accepted), Timing(REPORT, took)]


async def connect(nats_url: str, tenant: str) -> Penstock:
    """The connection that all users of a process share."""
    return await asyncio.wait_for(Penstock.connect(nats_url, tenant), 20)


def _question() -> Input:
    return Input(question=random.choice(QUESTIONS))


def _check(failure: Failure | None) -> None:
    if failure is not None:
        raise Unanswered(f"{failure.code}: {failure.reason}")


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
