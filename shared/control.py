"""Hears cancellations: one stream of control for all, or one of each tenant where the server has accounts.

What a tenant may send there is bounded by its stream, and what of it reaches a service in a second by the consumer, so
that a tenant who floods its own keeps neither the cancellations of others nor the services from their work.
"""

import logging

import msgspec
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage
from faststream.nats.subscriber.usecases import LogicSubscriber
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy

from contracts import subjects
from contracts.accounts import control
from contracts.events import Cancel
from contracts.subjects import CONTROL
from shared.bus import Bus
from shared.cancels import Cancels
from shared.errors import Retryable
from shared.joining import keep_looking

log = logging.getLogger("penstock.control")

_BITS_PER_S = 1_000_000  # of a stream: about a thousand cancellations
_OF_ONE = control("").name


class Control:
    """FastStream's subscribers of every stream of control that there is; tenants may join while it runs."""

    def __init__(self, broker: NatsBroker, bus: Bus, cancels: Cancels) -> None:
        self._broker = broker
        self._bus = bus
        self._cancels = cancels
        self._heard: dict[str, LogicSubscriber[Msg]] = {}

    async def look(self) -> None:
        """Begin to listen to streams that are new. Raises Retryable."""
        for stream in await self._bus.controls():
            if stream not in self._heard:
                subscriber = self._subscriber(stream)
                await self._bus.patiently(subscriber.start)
                self._heard[stream] = subscriber

    async def run(self) -> None:
        """Listen to the streams of tenants that join."""
        await keep_looking(self._bus, self.look, "streams of control")

    async def resume(self) -> None:
        """After a reconnect: the server may have forgotten us, so listen anew, from the last word on each job."""
        old, self._heard = self._heard, {}
        try:
            for subscriber in old.values():
                await subscriber.stop()
            await self.look()
        except (Retryable, NatsError) as error:
            log.warning("listening to control again: %s", error)

    def _subscriber(self, stream: str) -> LogicSubscriber[Msg]:
        tenant = "*" if stream == CONTROL.name else stream.removeprefix(_OF_ONE)
        subscriber: LogicSubscriber[Msg] = self._broker.subscriber(
            subjects.cancel(tenant, "*"),
            stream=JStream(stream, declare=False),
            ordered_consumer=True,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.MANUAL,
            config=ConsumerConfig(rate_limit_bps=_BITS_PER_S),
            decoder=_raw,
            persistent=False,
        )
        subscriber(self._hear)
        return subscriber

    async def _hear(self, message: NatsMessage) -> None:
        """Remember a cancelled job; an unreadable reason cancels all the same."""
        _, tenant, _, job = message.raw_message.subject.split(".")
        try:
            reason = msgspec.json.decode(message.body or b"{}", type=Cancel).reason
        except msgspec.MsgspecError:
            reason = ""
        self._cancels.add(tenant, job, reason)


async def _raw(message: NatsMessage) -> bytes:
    return message.body
