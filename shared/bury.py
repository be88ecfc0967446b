"""Dead letters: a message that can never succeed is kept with its reason, and its items arrive as failed."""

import logging
import time

import msgspec
from nats.aio.msg import Msg

from contracts import subjects
from contracts.item import Failure, Item
from contracts.steps import Join
from contracts.subjects import SHARD
from contracts.task import DeadLetter, Task
from shared.bus import Bus, headers_of
from shared.delivery import Delivery
from shared.errors import Poison
from shared.hops import Hops, task_from_header
from shared.results import fail
from shared.telemetry import trace_headers

log = logging.getLogger("penstock.dead")


async def read_task(bus: Bus, message: Msg) -> Task:
    """Decode a message of WORK; raises Poison where it is not a task."""
    data = await bus.payload(message.data, message.headers)
    try:
        return msgspec.msgpack.decode(data, type=Task)
    except msgspec.MsgspecError as error:
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
    """The task with its living items failed; where it cannot be read, what its header says of it."""
    try:
        task = await read_task(hops.bus, message)
    except Poison:
        header = headers_of(message).get(SHARD)
        return None if header is None else task_from_header(header, Item(n=0, failure=failure))
    if task.steps and isinstance(task.steps[0], Join):
        parent = await hops.parent(task.steps[0].group)
        if parent is None:
            return None
        task = parent
    items = fail(task.items, failure.code, failure.reason, failure.service)
    return msgspec.structs.replace(task, items=items, steps=[])
