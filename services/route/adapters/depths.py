"""How full the queues are, for metrics: looked up every ten seconds."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from contracts.subjects import WORK
from shared.bus import Bus, answered
from shared.errors import Retryable
from shared.telemetry import Telemetry

log = logging.getLogger("penstock.depths")

_EVERY_S = 10.0


@dataclass(frozen=True)
class Depths:
    """Fills the gauge. Every replica of route does, with the same numbers."""

    bus: Bus
    telemetry: Telemetry

    async def watch(self) -> None:
        while True:
            try:
                await self.look()
            except Retryable as error:
                log.info("queues: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Consumers are called `<service>-<lane>`, those of a replica's own queue `<service>-<replica>-<lane>`."""
        found: Counter[tuple[str, str]] = Counter()
        for consumer in await answered(self.bus.js.consumers_info(WORK.name)):
            service, lane = consumer.name.partition("-")[0], consumer.name.rpartition("-")[2]
            found[service, lane] += (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
        self.telemetry.queue_depths.clear()
        self.telemetry.queue_depths.update(found)
