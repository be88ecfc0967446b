"""Dead letters: a message that can never succeed is kept with its reason, and its items arrive as failed."""

import logging
import time

import msgspec
from nats.aio.msg import Msg

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
from shared.telemetry import trace_headers

log = logging.getLogger("penstock.dead")


async def read_task(bus: Bus, message: Msg) -> Task:
    """Decode a message of WORK; raises Poison where it is not a task."""
    data = await bus.payload(message.data, message.headers)
    try:
        return msgspec.msgpack.decode(data, type=Task)
    except Undecodable as error:
        raise Poison(f"not a task: {error}") from None


async def bury(hops: Hops, delivery: Delivery, failure: Failure) -> None:
    """Keep the message under `dead.<service>`, then let its items arrive as failed, so that their job can end.

    Raises Retryable where that is not possible now.
    """
    message = delivery.message
    letter = DeadLetter(
        service=failure.service,
        subject=message.subject,
        reason=failure.reason,
        failure=failure,
        payload=message.data,
        headers=headers_of(message),
        deliveries=delivery.attempt,
        at=time.time(),
    )
    sequence = message.metadata.sequence.stream
    await hops.bus.publish(
        subjects.dead(failure.service),
        msgspec.msgpack.encode(letter),
        msg_id=f"dead.{message.metadata.stream}.{sequence}",
    )
    log.warning("%s: dead letter from %s: %s", failure.service, message.subject, failure.reason)
    task = await _failed(hops, message, failure)
    if task is not None:
        await hops.arrive(task, trace_headers())


async def _failed(hops: Hops, message: Msg, failure: Failure) -> Task | None:
    """The task with its living items failed; None where nobody waits for it."""
    try:
        task = await read_task(hops.bus, message)
    except Poison:
        return await _unreadable(hops, headers_of(message).get(SHARD, ""), failure)
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
