"""The live stream of one item's answer."""

import time
from dataclasses import dataclass
from typing import Protocol

import msgspec

from contracts.job import TokenDelta


class Publisher(Protocol):
    """Sends a payload to a subject and never fails, waits for nobody."""

    async def publish(self, subject: str, payload: bytes) -> None: ...


@dataclass
class TokenStream:
    """Numbers the pieces of one attempt. A higher attempt tells readers to forget what came before."""

    publisher: Publisher
    subject: str
    attempt: int = 1
    index: int = 0
    tokens: int = 0
    first_at: float = 0.0  # unix seconds of the first piece

    async def send(self, text: str, tokens: int = 0, /) -> None:
        """The next piece; one without text is not worth a message, its tokens count with the next."""
        self.tokens += tokens
        if text:
            self.first_at = self.first_at or time.time()
            await self._publish(text, "")

    async def close(self, finish_reason: str) -> None:
        """The last delta."""
        await self._publish("", finish_reason)

    def again(self, attempt: int) -> None:
        """Start anew under a higher number."""
        self.attempt = attempt
        self.index = 0
        self.tokens = 0
        self.first_at = 0.0

    async def _publish(self, text: str, finish_reason: str) -> None:
        delta = TokenDelta(self.index, text, self.attempt, finish_reason, self.tokens)
        self.index += 1
        await self.publisher.publish(self.subject, msgspec.json.encode(delta))
