"""Indexing steps aside while questions are being answered."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Courtesy:
    """Knows whether somebody is waiting for passages."""

    def __init__(self) -> None:
        self._asking = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def asking(self) -> Iterator[None]:
        self._asking += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._quiet.set()

    async def give_way(self, at_most_s: float = 0.25) -> None:
        """Wait until nobody asks, but not for ever: under constant questions indexing goes on, slowly."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), at_most_s)
