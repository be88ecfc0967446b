"""One delivery of a message: its age, its attempt, its heartbeat, and the one place that settles it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.errors import Retryable

_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 30.0


@dataclass(frozen=True)
class Delivery:
    """A message as JetStream delivered it."""

    message: Msg
    attempt: int  # from 1
    published_at: float  # unix seconds

    @classmethod
    def of(cls, message: Msg) -> "Delivery":
        metadata = message.metadata
        return cls(message, metadata.num_delivered, metadata.timestamp.timestamp())

    @property
    def queued_ms(self) -> float:
        return max(0.0, (time.time() - self.published_at) * 1000)

    @asynccontextmanager
    async def heartbeat(self, every_s: float) -> AsyncIterator[None]:
        """Tell the server that the work goes on, so that nobody else gets the message meanwhile."""
        beat = asyncio.create_task(self._beat(every_s))
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.message.in_progress()
            except NatsError:
                continue  # the connection is away; its reconnect decides

    async def done(self) -> None:
        """Acknowledge. Nobody waits for the server's answer: a lost acknowledgement only means one more delivery."""
        try:
            await self.message.ack()
        except NatsError:
            return

    async def again(self, error: Retryable | None = None) -> None:
        """Come back after a pause: what the other side asked for, else exponential backoff with full jitter."""
        asked = error.after if error is not None else None
        pause = asked if asked is not None else random.uniform(0.1, backoff(self.attempt))
        try:
            await self.message.nak(delay=pause)
        except NatsError:
            return  # it comes back after ack_wait


def backoff(attempt: int) -> float:
    """Seconds at most before the next try: 0.5, 1, 2, 4, … 30."""
    return float(min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (attempt - 1)))
