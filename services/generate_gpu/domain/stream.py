"""The live stream of one item's answer."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from contracts.job import TokenDelta
from shared.errors import Retryable

log = logging.getLogger("penstock.generate.stream")


class Publisher(Protocol):
    """Sends a payload to a subject and never fails, waits for nobody."""

    async def publish(self, subject: str, payload: bytes) -> None: ...


@dataclass
class TokenStream:
    """Numbers the pieces of one attempt. A higher attempt tells readers to forget what came before."""

    publisher: Publisher
    subject: str
    next_attempt: Callable[[], Awaitable[int]]  # counts those of earlier deliveries too
    attempt: int = 0  # none has begun here
    index: int = 0
    tokens: int = 0
    first_at: float = 0.0  # unix seconds of the first piece

    async def begin(self) -> None:
        """Start anew under a higher number, also where the count was lost. Raises Retryable where it cannot be had."""
        self.attempt = max(await self.next_attempt(), self.attempt + 1)
        self.index = 0
        self.tokens = 0
        self.first_at = 0.0

    async def send(self, text: str, tokens: int = 0, /) -> None:
        """The next piece; one without text is not worth a message, its tokens count with the next."""
        self.tokens += tokens
        if text:
            self.first_at = self.first_at or time.time()
            await self._publish(text, "")

    async def close(self, finish_reason: str) -> None:
        """The last delta. Where nothing has begun it is an attempt of its own: readers may be at a higher one than the
        first, from an earlier delivery."""
        if not self.attempt:
            try:
                await self.begin()
            except Retryable as error:
                log.info("readers of %s do not hear that it has ended: %s", self.subject, error)  # the result says so
                return
        await self._publish("", finish_reason)

    async def _publish(self, text: str, finish_reason: str) -> None:
        delta = TokenDelta(self.index, text, self.attempt, finish_reason, self.tokens)
        self.index += 1
        await self.publisher.publish(self.subject, msgspec.json.encode(delta))
