"""Dead letters: tasks that no service could carry out. They can be read, and sent on their way again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import uuid4

import msgspec
from msgspec import Struct
from nats.js.errors import NotFoundError

from client.errors import NotFound
from client.follow import stored
from contracts.subjects import DEAD, MSG_ID
from contracts.task import DeadLetter, Task
from shared.bus import Bus, answered
from shared.errors import Poison
from shared.room import Room, lane_of


class Letter(Struct, frozen=True):
    """A dead letter and its place in the stream, which is its number."""

    number: int
    letter: DeadLetter


async def letters(bus: Bus, service: str = "*") -> AsyncGenerator[Letter, None]:
    """All dead letters of a service, or of all, the oldest first."""
    async with aclosing(stored(bus.js, DEAD, f"dead.{service}")) as messages:
        async for message in messages:
            payload = await bus.payload(message.data, message.headers)
            yield Letter(message.metadata.sequence.stream, msgspec.msgpack.decode(payload, type=DeadLetter))


async def letter(bus: Bus, number: int) -> Letter:
    """One dead letter; raises NotFound."""
    try:
        message = await answered(bus.js.get_msg(DEAD.name, number))
    except NotFoundError:
        raise NotFound(f"dead letter {number}: there is none with this number; see: penstock dead list") from None
    payload = await bus.payload(message.data or b"", message.headers)
    return Letter(number, msgspec.msgpack.decode(payload, type=DeadLetter))


async def task_of(bus: Bus, found: Letter) -> Task | None:
    """The task in the letter; None where it cannot be read, which is often why it lies here."""
    try:
        payload = await bus.payload(found.letter.payload, found.letter.headers)
        return msgspec.msgpack.decode(payload, type=Task)
    except (Poison, msgspec.MsgspecError):
        return None


async def redrive(bus: Bus, found: Letter) -> None:
    """Publish the message again as it was, under a fresh id, and remove the letter once that is stored.

    Raises QueueFull while too much is under way.
    """
    await Room(bus).check(lane_of(found.letter.subject) or "batch")
    headers = {name: value for name, value in found.letter.headers.items() if not name.startswith("Nats-")}
    headers[MSG_ID] = f"redrive.{found.number}.{uuid4().hex}"
    await answered(bus.js.publish(found.letter.subject, found.letter.payload, headers=headers))
    await answered(bus.js.delete_msg(DEAD.name, found.number))
