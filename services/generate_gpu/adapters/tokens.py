"""Tokens to whoever listens: core NATS, not stored."""

import logging
from dataclasses import dataclass

from nats.aio.client import Client
from nats.errors import Error as NatsError

log = logging.getLogger("penstock.generate.tokens")


@dataclass(frozen=True)
class NatsTokens:
    """Publishes without waiting for readers: a slow one is the server's affair, and nobody listening is no error."""

    nc: Client

    async def publish(self, subject: str, payload: bytes) -> None:
        try:
            await self.nc.publish(subject, payload)
        except NatsError as error:
            log.debug("a token is lost: %s", error)  # the result comes over the stream all the same
