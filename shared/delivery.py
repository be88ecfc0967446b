"""One delivery of a message: its age, its attempt, its heartbeat, and the one place that settles it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from contracts.subjects import WAITED
from contracts.task import Waited
from shared.bus import Bus
from shared.errors import Later, Retryable

_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 30.0


@dataclass(frozen=True)
class Delivery:
    """A message as JetStream delivered it."""

    message: Msg
    attempt: int  # from 1
    published_at: float  # unix seconds
    run: int = 1  # from 1; higher than `attempt` where the task had to wait
    early_s: float = 0.0  # how long before its time it came

    @classmethod
    def of(cls, message: Msg) -> "Delivery":
        metadata = message.metadata
        published_at = metadata.timestamp.timestamp()
        raw = (message.headers or {}).get(WAITED)
        if raw is None:
            return cls(message, metadata.num_delivered, published_at, metadata.num_delivered)
        waited = msgspec.json.decode(raw, type=Waited)
        early_s = waited.until - time.time() if metadata.num_delivered == 1 else 0.0
        here = max(1, metadata.num_delivered - 1)  # the first delivery is where it is told to wait
        return cls(message, waited.failed + here, published_at, waited.runs + here, early_s)

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

    async def not_yet(self) -> None:
        """Come back when it is time."""
        try:
            await self.message.nak(delay=self.early_s)
        except NatsError:
            return  # it comes back after ack_wait, which is no harm

    async def wait(self, bus: Bus, error: Later) -> None:
        """Come back after a pause which is no attempt.

        The server counts every delivery and gives a message up after so many, so the task is published anew, with its
        own count of attempts, and this message is done. A crash in between leaves two of them; one arrives.
        Raises Retryable where it cannot be published.
        """
        waited = Waited(time.time() + error.after, self.attempt - 1, self.run)
        head = {name: value for name, value in (self.message.headers or {}).items() if not name.startswith("Nats-")}
        head[WAITED] = msgspec.json.encode(waited).decode()
        metadata = self.message.metadata
        msg_id = f"waited.{metadata.stream}.{metadata.sequence.stream}"
        await bus.publish(self.message.subject, self.message.data, msg_id=msg_id, headers=head)
        await self.done()

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
