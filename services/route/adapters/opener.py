"""Opens jobs: reads submissions from JOBS, refuses what cannot be, and publishes the shards of the rest."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from contracts.item import Failure
from contracts.job import ItemResult, Job, JobReport
from contracts.subjects import CLAIM, JOBS, MSG_ID, REPLY
from contracts.task import Task
from services.route.adapters.lines import Lines
from services.route.adapters.paces import Paces
from services.route.adapters.records import Records
from services.route.adapters.windows import Windows
from services.route.config import RouteSettings
from services.route.domain.options import check_options, check_slip
from services.route.domain.pace import shard_size
from services.route.domain.patterns import Patterns
from services.route.domain.prompts import Prompts
from services.route.domain.submission import (
    Deadlines,
    Opening,
    Sizes,
    Submission,
    job_id,
    open_job,
    read_job,
    with_stream,
)
from shared.bus import headers_of
from shared.delivery import Delivery
from shared.errors import Poison, Rejected, Retryable
from shared.hops import Hops, reply
from shared.models import Catalogue
from shared.pull import Pull, pulling
from shared.uploads import Uploads
from shared.worker import Worker

log = logging.getLogger("penstock.open")

DURABLE = "route-open"

_INTERNAL = "job: internal error while opening it; the service's log says more"
_GIVEN_UP = "job: given up, as it could not be opened for long: the stack was too busy, or died over it each time"
_DELIVERIES = 200  # times `attempts`; while the gate is shut a job comes back every ten seconds or so


@dataclass(frozen=True)
class _Plan:
    job: Job
    opening: Opening


@dataclass(frozen=True)
class Opener:
    """Takes submissions off JOBS."""

    hops: Hops
    patterns: Patterns
    prompts: Prompts
    catalogue: Catalogue
    settings: RouteSettings
    worker: Worker
    paces: Paces
    windows: Windows

    @property
    def _records(self) -> Records:
        return Records(self.hops.bus)

    async def pull(self, queue: str = JOBS.name) -> Pull:
        """A started pull loop over a queue of submissions."""
        config = ConsumerConfig(
            durable_name=DURABLE, ack_policy=AckPolicy.EXPLICIT, ack_wait=self.settings.ack_wait_s, max_deliver=-1
        )
        return await pulling(self.hops.bus, queue, config, self.settings.open_slots, self.handle)

    async def handle(self, message: Msg) -> None:
        """Open one submission and settle its message."""
        delivery = Delivery.of(message)
        with self.worker.telemetry.hop(message.subject, message.headers, delivery.attempt):
            async with delivery.heartbeat(self.settings.ack_wait_s / 3):
                try:
                    await self._open(message, delivery)
                except Retryable as error:
                    log.warning("opening %s: %s", message.subject, error)
                    await delivery.again(error)
                except Exception:  # a fault of ours: one submission must not end the service
                    log.exception("opening %s failed", message.subject)
                    await self._give_up_or_again(message, delivery)
                else:
                    await delivery.done()

    async def _give_up_or_again(self, message: Msg, delivery: Delivery) -> None:
        """A server that is away may take its time; a fault of ours does not get better by itself."""
        if delivery.attempt < self.settings.attempts:
            await delivery.again()
            return
        submission = _submission(message, delivery)
        try:
            await self._reject(submission, _name(submission), _INTERNAL)
        except Retryable:
            await delivery.again()
        else:
            await delivery.done()

    async def _open(self, message: Msg, delivery: Delivery) -> None:
        began = time.perf_counter()
        submission = _submission(message, delivery)
        name = str(submission.sequence)
        try:
            if delivery.attempt > self.settings.attempts * _DELIVERIES:
                raise Rejected(_GIVEN_UP)
            data = await self._payload(message, submission.tenant)
            submission = replace(submission, data=data)
            name = job_id(submission)
            plan = await self._plan(submission)
        except (Rejected, Poison) as error:
            await self._reject(submission, name, str(error))
            return
        await self.hops.room.check(plan.opening.parked.task.lane)
        if await self._claim(submission, plan.opening):
            malformed = await self._publish(plan, delivery)
            parked = plan.opening.parked
            await self.worker.audit.opened(parked.task, delivery, parked.items, malformed, began)

    async def _plan(self, submission: Submission) -> _Plan:
        pattern = self.patterns.get(submission.pattern)
        job = read_job(submission.data)
        if job.items and job.items_claim:
            raise Rejected("items_claim: expected either items or items_claim, got both")
        if job.deadline_s is not None and not 0 < job.deadline_s < float("inf"):
            raise Rejected(f"deadline_s: expected more than 0 seconds, got {job.deadline_s}")
        check_options(job.options, self.catalogue)
        items, size_bytes = await self._measure(job, submission.tenant)
        job = msgspec.structs.replace(job, options=with_stream(job.options, items))
        slip = pattern.open(job.options)
        check_slip(slip, self.prompts)
        pace = await self.paces.read(pattern.name, job.options) if items > self.settings.shard_size else None
        sizes = Sizes(items, shard_size(items, size_bytes, pace, self.settings.cut))
        deadlines = Deadlines(self.settings.interactive_deadline_s, self.settings.batch_deadline_s)
        return _Plan(job, open_job(submission, job, sizes, pattern, slip, deadlines))

    async def _payload(self, message: Msg, tenant: str) -> bytes:
        """A user's claim is one of its uploads, whatever bucket it names; route's own may be any. Raises Poison."""
        claim = headers_of(message).get(CLAIM)
        if claim is None or _believed(message):
            return await self.hops.bus.payload(message.data, _believed(message))
        try:
            return await Uploads(self.hops.bus, tenant).read(claim)
        except NotFoundError:
            raise Poison(f"claim {claim}: no such upload; it may have expired") from None

    async def _measure(self, job: Job, tenant: str) -> tuple[int, int]:
        """How many items a job has, and how many bytes they take."""
        if not job.items_claim:
            return len(job.items), sum(len(memoryview(item)) for item in job.items)
        try:
            lines = await Lines.open(Uploads(self.hops.bus, tenant), job.items_claim)
            return await lines.count(), lines.size
        except Poison as error:
            raise Rejected(str(error)) from None

    async def _claim(self, submission: Submission, opening: Opening) -> bool:
        """Whether there is something to publish: the job's id may belong to another one, and the job may be over."""
        opened = opening.opened(submission.sequence)
        claimed, ended = await asyncio.gather(self._records.claim(opened), self._records.ended(opened))
        if not claimed:
            text = f"job: the id {opened.job!r} is in use by an earlier submission; choose another one"
            await self._reject(submission, str(submission.sequence), text)
            return False
        return not ended

    async def _publish(self, plan: _Plan, delivery: Delivery) -> int:
        if plan.job.items_claim:
            return await self.windows.first(plan.opening, plan.job.items_claim)
        if plan.opening.prompt_first:
            return await self.windows.only(plan.opening, plan.job.items, partial(self._at_once, delivery))
        return await self.windows.whole(plan.opening, plan.job.items)

    async def _at_once(self, delivery: Delivery, task: Task) -> None:
        """Take the task's first steps here: a person waits, and a message to ourselves takes a while."""
        await self.worker.walk(task, replace(delivery, published_at=time.time()))

    async def _reject(self, submission: Submission, name: str, reason: str) -> None:
        """Say why under the job's id (where that is another job's, under the sequence), and to whoever asked."""
        if await self._records.owner(submission.tenant, name) not in (None, submission.sequence):
            name = str(submission.sequence)
        log.info("rejected %s/%s: %s", submission.tenant, name, reason)
        rejected = JobReport(
            job=name, tenant=submission.tenant, pattern=submission.pattern, state="rejected", error=reason,
            seconds=round(max(0.0, time.time() - submission.at), 3), submitted_at=submission.at,
        )  # fmt: skip
        await self._records.refuse(rejected)
        if submission.reply:
            failure = Failure("malformed", reason, "route")
            await reply(self.hops.bus, submission.reply, ItemResult(n=0, failure=failure, job=name))


def _believed(message: Msg) -> dict[str, str]:
    """Headers of ours count where only route publishes: in a user's message they could name anybody's subject."""
    return headers_of(message) if message.subject.startswith("asks.") else {}


def _submission(message: Msg, delivery: Delivery) -> Submission:
    _, tenant, pattern = message.subject.split(".")
    head = headers_of(message)
    return Submission(
        tenant=tenant,
        pattern=pattern,
        sequence=message.metadata.sequence.stream,
        message_id=head.get(MSG_ID, ""),
        data=message.data,
        at=delivery.published_at,
        reply=_believed(message).get(REPLY, ""),
    )


def _name(submission: Submission) -> str:
    """Where the user looks for what became of a submission, as far as it can be read."""
    try:
        return job_id(submission)
    except Rejected:
        return str(submission.sequence)
