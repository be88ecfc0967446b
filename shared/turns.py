"""Turns within a process: what batch work computes item by item lets those who wait go first.

Slots of their own keep a person's task from queueing behind batch work, but both share one event loop and its threads:
a shard of a hundred items that is computed in one go is a second in which nobody else is served.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.job import Lane

_LOOK_S = 0.002
_PATIENCE_S = 0.25


class Turns:
    """Knows whether this process works for somebody who waits."""

    def __init__(self) -> None:
        self._people = 0

    @contextmanager
    def served(self, lane: Lane) -> Iterator[None]:
        """Around a handler."""
        self._people += lane == "interactive"
        try:
            yield
        finally:
            self._people -= lane == "interactive"

    async def give_way(self, lane: Lane) -> None:
        """Between two items of a handler. Batch work waits while people are served, but not for ever: under constant
        questions it goes on, slowly."""
        await asyncio.sleep(0)
        until = time.monotonic() + _PATIENCE_S
        while lane == "batch" and self._people and time.monotonic() < until:  # noqa: ASYNC110  an Event binds to one loop
            await asyncio.sleep(_LOOK_S)


TURNS = Turns()
"""Those of this process."""
