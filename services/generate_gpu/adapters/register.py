"""Says every second in the bucket `replicas` that this replica is alive, and what it has to do."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from nats.errors import Error as NatsError

from contracts import subjects
from contracts.events import Replica
from contracts.job import LANES
from contracts.subjects import WORK
from services.generate_gpu.domain.load import Load
from shared.worker import Worker

log = logging.getLogger("penstock.generate.register")

EVERY_S = 1.0
_FORGET_S = 24 * 3600.0  # what nobody has pulled from for so long belonged to a process that is gone


@dataclass
class Register:
    """One replica's place in the register, and the consumers of the tasks that are sent to it by name."""

    worker: Worker
    name: str  # a new one for each process: its cache is empty, so nothing is owed to an earlier name
    models: Sequence[str]
    slots: int
    load: Load
    _saying: asyncio.Task[None] | None = field(default=None)

    async def open(self) -> None:
        """Listen first, then say so."""
        settings = self.worker.settings
        for lane in LANES:
            slots = settings.interactive_slots if lane == "interactive" else settings.batch_slots
            await self.worker.pull(
                WORK, self._durable(lane), subjects.work_of(self.name, lane), slots, inactive_s=_FORGET_S
            )
        await self._say()
        self._saying = asyncio.create_task(self._say_so())

    async def close(self) -> None:
        """Gone: nothing new is sent here, and what waits goes to others."""
        if self._saying is not None:
            self._saying.cancel()
        gone = {"KV-Operation": "DEL"}
        await self.worker.bus.nc.publish(subjects.replica(self.name), b"", headers=gone)

    async def _say_so(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._say()
            except NatsError as error:
                log.debug("nobody hears that %s is alive: %s", self.name, error)

    async def _say(self) -> None:
        about = Replica(self.name, list(self.models), self.load.running, self.slots, self.load.prefixes)
        await self.worker.bus.nc.publish(subjects.replica(self.name), msgspec.json.encode(about))

    def _durable(self, lane: str) -> str:
        return f"generate-{self.name}-{lane}"
