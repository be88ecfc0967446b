"""Computes how prompts begin before questions come with them, so that the first one finds it there.

Route says so where a prompt has a new version, and to a replica that has joined.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts import subjects
from contracts.events import Warm
from services.generate_gpu.domain.completion import CompletionRequest, Keeping
from services.generate_gpu.domain.load import Load
from services.generate_gpu.domain.salt import salt
from shared.errors import ItemError, Retryable

log = logging.getLogger("penstock.generate.warming")


@dataclass
class Warming:
    """One replica's ear for what it is to compute; one after the other, behind everybody who waits."""

    nc: Client
    name: str
    engines: Mapping[str, Keeping]  # by the model's name
    load: Load
    _subscription: Subscription | None = None

    async def open(self) -> None:
        self._subscription = await self.nc.subscribe(subjects.warm(self.name), cb=self._hear)

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        try:
            about = msgspec.json.decode(message.data, type=Warm)
        except msgspec.MsgspecError as error:
            log.warning("told to compute what cannot be read: %s", error)
            return
        engine = self.engines.get(about.model)
        if engine is None:
            return
        if self.load.known(about.prefix):
            self.load.holds(about.prefix)  # among the newest again, so that the register says so
        else:
            await self._compute(about, engine)

    async def _compute(self, about: Warm, engine: Keeping) -> None:
        request = CompletionRequest(about.messages, batch=True, salt=salt(about.tenant, about.prompt))
        try:
            with self.load.of(1):
                await engine.warm(request)
        except (ItemError, Retryable) as error:
            log.warning("%s has not been computed for %s: %s", about.prompt, about.tenant, error)
        else:
            self.load.holds(about.prefix)
