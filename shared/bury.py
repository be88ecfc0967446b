"""Dead letters: a message that can never succeed is kept with its reason, and its items arrive as failed."""

import logging
import time
from dataclasses import dataclass
from typing import Self

import msgspec
from nats.aio.msg import Msg
from nats.js.api import RawStreamMsg

from contracts import subjects
from contracts.item import Failure, Item
from contracts.steps import Expire, Join
from contracts.subjects import SHARD
from contracts.task import DeadLetter, Task
from shared.bus import Bus, headers_of
from shared.delivery import Delivery
from shared.errors import Poison
from shared.explain import Undecodable
from shared.gather import lost_child
from shared.hops import Hops, task_from_header
from shared.results import fail
from shared.tracing import trace_headers

log = logging.getLogger("penstock.dead")


@dataclass(frozen=True)
class Lost:
    """A message of a queue that nobody can carry out, and its place there."""

    stream: str
    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]
    deliveries: int

    @classmethod
    def delivered(cls, delivery: Delivery) -> Self:
        """As it was delivered to a worker."""
        message = delivery.message
        place = message.metadata
        return cls(
            place.stream, place.sequence.stream, message.subject, message.data, headers_of(message), delivery.attempt
        )

    @classmethod
    def stored(cls, stream: str, message: RawStreamMsg, deliveries: int) -> Self:
        """As it lies in its stream, where no worker gets it any more."""
        return cls(
            stream, message.seq or 0, message.subject or "", message.data or b"", headers_of(message), deliveries
        )


async def read_task(bus: Bus, message: Msg | Lost) -> Task:
    """Decode a message of WORK; raises Poison where it is not a task."""
    data = await bus.payload(message.data, message.headers)
    try:
        return msgspec.msgpack.decode(data, type=Task)
    except Undecodable as error:
        raise Poison(f"not a task: {error}") from None


async def bury(hops: Hops, lost: Lost, failure: Failure) -> None:
    """Keep the message under `dead.<service>`, then let its items arrive as failed, so that their job can end.

    Raises Retryable where that is not possible now.
    """
    letter = DeadLetter(
        service=failure.service,
        subject=lost.subject,
        reason=failure.reason,
        failure=failure,
        payload=lost.data,
        headers=lost.headers,
        deliveries=lost.deliveries,
        at=time.time(),
    )
    await hops.bus.publish(
        subjects.dead(failure.service),
        msgspec.msgpack.encode(letter),
        msg_id=f"dead.{lost.stream}.{lost.sequence}",
        headers={SHARD: lost.headers[SHARD]} if SHARD in lost.headers else None,
    )
    log.warning("%s: dead letter from %s: %s", failure.service, lost.subject, failure.reason)
    task = await _failed(hops, lost, failure)
    if task is not None:
        await hops.arrive(task, trace_headers(), buried=True)


async def _failed(hops: Hops, lost: Lost, failure: Failure) -> Task | None:
    """The task with its living items failed; None where nobody waits for it."""
    try:
        task = await read_task(hops.bus, lost)
    except Poison:
        return await _unreadable(hops, lost.headers.get(SHARD, ""), failure)
    match task.steps[0] if task.steps else None:
        case Expire():
            return None
        case Join(group):
            parked = await hops.parked(group)
            if parked is None or parked.merge == "report":
                return None
            task = parked.task
    items = fail(task.items, failure.code, failure.reason, failure.service)
    return msgspec.structs.replace(task, items=items, steps=[])


async def _unreadable(hops: Hops, header: str, failure: Failure) -> Task | None:
    """What is known of a task that cannot be read: from what is parked for its group, else from its header."""
    task = task_from_header(header, Item(n=0, failure=failure))
    parked = None if task is None else await hops.parked(task.group)
    return task if task is None or parked is None else lost_child(parked, task.group, task.index, failure)
