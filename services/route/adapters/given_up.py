"""Buries what the server has given up: a message that was delivered `max_deliver` times and never settled.

Such a message kills every worker, or hangs in it. It stays in its queue, and nobody gets it any more; the server says
so in an advisory, which the stream ADVISORIES keeps until it has been dealt with here.
"""

import logging
from dataclasses import dataclass

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from contracts.events import Advisory
from contracts.item import Failure
from contracts.subjects import ADVISORIES, ALARMS, WORK
from services.route.config import RouteSettings
from shared.bury import Lost, bury
from shared.bus import answered
from shared.delivery import Delivery
from shared.errors import Retryable
from shared.explain import Undecodable
from shared.hops import Hops
from shared.pull import Pull, pulling

log = logging.getLogger("penstock.given_up")

DURABLE = "route-given-up"
_SLOTS = 4


@dataclass(frozen=True)
class GivenUp:
    """Takes advisories off ADVISORIES."""

    hops: Hops
    settings: RouteSettings

    async def pull(self) -> Pull:
        """A started pull loop."""
        config = ConsumerConfig(
            durable_name=DURABLE, ack_policy=AckPolicy.EXPLICIT, ack_wait=self.settings.ack_wait_s, max_deliver=-1
        )
        return await pulling(self.hops.bus, ADVISORIES.name, config, _SLOTS, self.handle)

    async def handle(self, message: Msg) -> None:
        """Bury what one advisory is about, and settle the advisory."""
        delivery = Delivery.of(message)
        try:
            await self._bury(msgspec.json.decode(message.data, type=Advisory))
        except Undecodable as error:
            log.warning("%s: not an advisory: %s", message.subject, error)
            await delivery.done()
        except Retryable as error:
            log.warning("%s: cannot bury yet: %s", message.subject, error)
            await delivery.again(error)
        except Exception:  # a fault of ours: the message must not be lost, nor end the service
            log.exception("%s: cannot bury", message.subject)
            await delivery.again()
        else:
            await delivery.done()

    async def _bury(self, advisory: Advisory) -> None:
        """Every part may be repeated; where the message is gone, that has been done, or a worker finished it late."""
        if advisory.stream not in (WORK.name, ALARMS.name):
            return
        js = self.hops.bus.js
        try:
            message = await answered(js.get_msg(advisory.stream, advisory.stream_seq))
        except NotFoundError:
            return
        service = advisory.consumer.split("-")[0]
        reason = (
            f"given up after {advisory.deliveries} deliveries: the worker died over it each time, or never finished"
        )
        await bury(
            self.hops,
            Lost.stored(advisory.stream, message, advisory.deliveries),
            Failure("internal", reason, service),
        )
        try:
            await answered(js.delete_msg(advisory.stream, advisory.stream_seq))
        except NotFoundError:
            return
