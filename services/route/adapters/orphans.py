"""Moves the work that waits for a replica which is gone, or leaves, to where anybody finds it."""

import asyncio
from contextlib import suppress

from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from contracts.subjects import MSG_ID, WORK, consumer_of
from services.route.domain.replicas import Orphans
from shared.bus import Bus

_AT_ONCE = 32
_NO_MESSAGE = (10043, 10057)  # error codes of JetStream


async def move(bus: Bus, orphans: Orphans, after: int) -> int:
    """How many tasks were moved: those behind this place in the stream.

    One is looked for after the other, and many are written at once: that takes longer.
    """
    moved, last = 0, after
    while batch := await _next(bus, orphans.subject, last):
        await asyncio.gather(*(_move_one(bus, orphans, found) for found in batch))
        moved, last = moved + len(batch), batch[-1].seq or 0
    return moved


async def delivered(bus: Bus, orphans: Orphans) -> int:
    """The place in the stream up to which a replica has been given its work."""
    try:
        info = await bus.js.consumer_info(WORK.name, consumer_of(orphans.replica, orphans.lane))
    except NotFoundError:
        return 0
    return info.delivered.stream_seq if info.delivered is not None else 0


async def _next(bus: Bus, subject: str, after: int) -> list[RawStreamMsg]:
    found: list[RawStreamMsg] = []
    with suppress(NotFoundError):
        while len(found) < _AT_ONCE:
            found.append(await bus.js.get_msg(WORK.name, seq=after + 1, subject=subject, direct=True, next=True))
            after = found[-1].seq or 0
    return found


async def _move_one(bus: Bus, orphans: Orphans, found: RawStreamMsg) -> None:
    """Publish, then delete: a crash in between leaves a task twice, of which only one has effects."""
    headers = dict(found.headers or {})
    msg_id = f"{headers.pop(MSG_ID, found.seq)}.{orphans.replica}"
    await bus.publish(orphans.target, found.data or b"", msg_id=msg_id, headers=headers)
    try:
        await bus.js.delete_msg(WORK.name, found.seq or 0)
    except APIError as error:
        if error.err_code not in _NO_MESSAGE:  # another route moves it, too
            raise
