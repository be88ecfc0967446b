"""Waits for a result that may be there already, may come live, or may come while the connection is away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from nats.aio.msg import Msg

from client.errors import TimedOut
from contracts.accounts import LIVE
from contracts.subjects import RESULTS
from shared.bus import Bus

LOOK_S = 5.0
"""How often to look into the stream: a live message can be missed, a stored one cannot."""

T = TypeVar("T")


class Waiting:
    """Listens from `async with` on, so that what is published after it is not missed."""

    def __init__(self, bus: Bus, places: Sequence[str]) -> None:
        self._bus = bus
        self._places = places
        self._live: asyncio.Queue[Msg] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        heard = [*self._places, *(f"{LIVE}.{place}" for place in self._places)]
        self._subscriptions = [await self._bus.nc.subscribe(place, cb=self._live.put) for place in heard]
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._bus.nc.is_closed:
            for subscription in self._subscriptions:
                await subscription.unsubscribe()

    async def first(self, read: Callable[[str, bytes], T | None], timeout_s: float | None, late: str) -> T:
        """What `read` makes of the first message it does not answer with None; raises TimedOut with the text `late`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for subject, payload in await self._next():
                        if (found := read(subject, payload)) is not None:
                            return found
        except TimeoutError:
            raise TimedOut(late) from None

    async def look(self, read: Callable[[str, bytes], T | None]) -> T | None:
        """The same for what is stored now."""
        for subject, payload in await self._stored():
            if (found := read(subject, payload)) is not None:
                return found
        return None

    async def _next(self) -> list[tuple[str, bytes]]:
        try:
            async with asyncio.timeout(LOOK_S):
                message = await self._live.get()
        except TimeoutError:
            return await self._stored()
        return [(message.subject.removeprefix(f"{LIVE}."), await self._bus.payload(message.data, message.headers))]

    async def _stored(self) -> list[tuple[str, bytes]]:
        found = [(place, await self._bus.last(RESULTS, place)) for place in self._places]
        return [(place, message.data or b"") for place, message in found if message]
