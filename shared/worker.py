"""The worker: takes tasks off the bus, walks their steps that belong to this service, and settles the message.

What becomes of a message is decided by the class of the error, here and nowhere else:
`Retryable` comes back later, everything else that is raised on purpose goes to the dead letters, and after the last
attempt so does everything. A worker that dies says nothing: the server counts its deliveries.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from contracts import subjects
from contracts.item import Failure, FailureCode, Item
from contracts.job import LANES
from contracts.steps import AnyStep, Expire, Join, Step
from contracts.subjects import WORK, Stream
from contracts.task import Task
from shared.audit import Audit
from shared.bury import Lost, bury, read_task
from shared.bus import Bus
from shared.cancels import Cancels
from shared.delivery import Delivery
from shared.errors import ItemError, Later, PenstockError, Poison, Rejected, Retryable
from shared.hops import Hops
from shared.outcome import Advance, Finished, Outcome, Spread
from shared.pull import Pull, pulling
from shared.results import fail, fail_expired, merge_back
from shared.settings import ServiceSettings
from shared.telemetry import ERROR, Telemetry
from shared.tracing import trace_headers
from shared.turns import TURNS

log = logging.getLogger("penstock.worker")

SILENT = 2
"""Times `attempts`: a delivery that ends without a word was not always the message's fault, as one that raises. After
so many the server gives the message up, and route buries it (services/route/adapters/given_up.py)."""

Handler = Callable[[Task, AnyStep], Awaitable[Sequence[Item] | Outcome]]
StepT = TypeVar("StepT", bound=Step)


@dataclass
class Worker:
    """One service's worker over both lanes."""

    settings: ServiceSettings
    bus: Bus
    hops: Hops
    audit: Audit
    cancels: Cancels
    telemetry: Telemetry
    _handlers: dict[type[Step], Handler] = field(default_factory=dict)
    _pulls: list[Pull] = field(default_factory=list)

    @property
    def service(self) -> str:
        return self.settings.service

    def on(self, step: type[StepT], handler: Callable[[Task, StepT], Awaitable[Sequence[Item] | Outcome]]) -> None:
        """Let `handler` take every step of this class."""
        self._handlers[step] = handler  # type: ignore[assignment]  # looked up by the step's own class

    async def start(self) -> None:
        """Pull from both lanes, each with its own slots, so that batch work never takes a waiting person's place."""
        for lane in LANES:
            slots = self.settings.interactive_slots if lane == "interactive" else self.settings.batch_slots
            await self.pull(WORK, f"{self.service}-{lane}", subjects.work_filter(self.service, lane), slots)

    async def pull(
        self, stream: Stream, durable: str, subject: str, slots: int, inactive_s: float | None = None
    ) -> Pull:
        """Take tasks from a consumer, which is created where it is missing; one that nobody pulls from for
        `inactive_s` is removed by the server."""
        config = ConsumerConfig(
            durable_name=durable,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.settings.ack_wait_s,
            max_deliver=self.settings.attempts * SILENT,
            max_ack_pending=10_000,
            inactive_threshold=inactive_s,
        )
        pull = await pulling(self.bus, stream.name, config, slots, self.handle)
        self._pulls.append(pull)
        return pull

    async def resume(self) -> None:
        """After a reconnect: listen again at once."""
        for pull in self._pulls:
            await pull.resume()

    async def drain(self, timeout_s: float) -> None:
        await asyncio.gather(*(pull.drain(timeout_s) for pull in self._pulls))

    async def abandon(self) -> None:
        """Give all that runs to other workers; this process ends."""
        await asyncio.gather(*(pull.abandon() for pull in self._pulls))

    async def handle(self, message: Msg) -> None:
        """Work on one message and settle it."""
        delivery = Delivery.of(message)
        if delivery.early_s > 0:
            await delivery.not_yet()
            return
        with self.telemetry.hop(message.subject, message.headers, delivery.attempt):
            async with delivery.heartbeat(self.settings.ack_wait_s / 3):
                try:
                    await self._attempt(delivery)
                except Later as error:
                    await self._wait(delivery, error)
                except Retryable as error:
                    await self._retry(delivery, "upstream", str(error), error)
                except PenstockError as error:
                    await self._bury(delivery, _code(error), str(error))
                except Exception as error:  # a fault of ours: one message must not end the service
                    log.exception("%s: unexpected error on %s", self.service, message.subject)
                    await self._retry(delivery, "internal", f"internal error ({type(error).__name__})", None)

    async def _attempt(self, delivery: Delivery) -> None:
        task = await read_task(self.bus, delivery.message)
        match task.steps[0] if task.steps else None:
            case Join(group):
                await self._join(group, delivery)
            case Expire(group):
                await self.hops.expire(group, trace_headers())
            case _:
                await self.walk(task, delivery)
        await delivery.done()

    async def _join(self, group: str, delivery: Delivery) -> None:
        """Publish the continuation, then unpark: a join that finds nothing parked has been done before."""
        parent = await self.hops.join(group)
        if parent is not None:
            await self.walk(parent, delivery)
            await self.hops.joined(group)

    async def walk(self, task: Task, delivery: Delivery) -> None:
        """Take the steps that belong to this service, one after the other, then pass the task on."""
        while task.steps and task.steps[0].service == self.service:
            task = self._drop_late(task)
            if task.items and not any(item.at_work for item in task.items):
                break
            began = time.perf_counter()
            outcome = await self._take(task, delivery)
            task = msgspec.structs.replace(task, spent_s=task.spent_s + time.perf_counter() - began)
            if isinstance(outcome, Finished):
                return
            if isinstance(outcome, Spread):
                rest = msgspec.structs.replace(task, steps=task.steps[1:])
                await self.hops.scatter(rest, outcome, trace_headers())
                return
            task = _advanced(task, outcome)
        await self.hops.go_on(task, trace_headers())

    def _drop_late(self, task: Task) -> Task:
        """Cancelled and expired items go no further."""
        reason = self.cancels.reason(task.tenant, task.job)
        if reason is not None:
            return msgspec.structs.replace(task, items=fail(task.items, "cancelled", reason, self.service))
        now = time.time()
        if task.deadline is not None and now >= task.deadline:
            late = "deadline exceeded: the job's deadline_s was over"
            return msgspec.structs.replace(task, items=fail(task.items, "deadline_exceeded", late, self.service))
        return msgspec.structs.replace(task, items=fail_expired(task.items, now, self.service))

    async def _take(self, task: Task, delivery: Delivery) -> Outcome:
        """One step: the handler sees the living items, and one record of it goes to the audit log."""
        step = task.steps[0]
        handler = self._handlers.get(type(step))
        if handler is None:
            raise Poison(f"{self.service} has no handler for the step {type(step).__name__}")
        living = [item for item in task.items if item.at_work]
        async with self.audit.step(task, step, delivery, living) as record:
            try:
                with TURNS.served(task.lane):
                    result = await handler(msgspec.structs.replace(task, items=living), step)
            except Retryable as error:
                if error.settled is None or isinstance(error, Later) or delivery.attempt < self.settings.attempts:
                    raise
                result = error.settled
            outcome = result if isinstance(result, Outcome) else Advance(result)
            if isinstance(outcome, Advance | Spread) and living:
                if len(outcome.items) != len(living):
                    raise Poison(f"{self.service}: {len(living)} items in, {len(outcome.items)} out")
                record.after = list(outcome.items)
        if isinstance(outcome, Advance) and living:
            return Advance(merge_back(task.items, outcome.items), outcome.steps, outcome.skip)
        if isinstance(outcome, Spread):
            return Spread(merge_back(task.items, outcome.items), outcome.children, outcome.merge)
        return outcome

    async def _wait(self, delivery: Delivery, error: Later) -> None:
        """Waiting is no failure; where even that is not possible, it is one more attempt."""
        try:
            await delivery.wait(self.bus, error)
        except Retryable as unpublished:
            await self._retry(delivery, "upstream", str(unpublished), unpublished)

    async def _retry(self, delivery: Delivery, code: FailureCode, reason: str, error: Retryable | None) -> None:
        if delivery.attempt < self.settings.attempts:
            self.telemetry.retries.add(1, {ERROR: code})
            await delivery.again(error)
        else:
            await self._bury(delivery, code, f"given up after {delivery.attempt} attempts: {reason}")

    async def _bury(self, delivery: Delivery, code: FailureCode, reason: str) -> None:
        self.telemetry.dead_letters.add(1, {ERROR: code})
        try:
            await bury(self.hops, Lost.delivered(delivery), Failure(code, reason, self.service))
        except Retryable as error:
            log.warning("%s: cannot bury %s yet: %s", self.service, delivery.message.subject, error)
            await delivery.again()
        except Exception:  # a fault of ours: the message must not be lost, nor end the service
            log.exception("%s: cannot bury %s", self.service, delivery.message.subject)
            await delivery.again()
        else:
            await delivery.done()


def _code(error: PenstockError) -> FailureCode:
    """What items fail with where their shard can never succeed."""
    if isinstance(error, ItemError):
        return error.code
    return "malformed" if isinstance(error, Rejected) else "internal"


def _advanced(task: Task, outcome: Advance) -> Task:
    rest = task.steps[1 + outcome.skip :]
    return msgspec.structs.replace(task, items=list(outcome.items), steps=[*outcome.steps, *rest], hop=task.hop + 1)
