"""Says every second in the bucket `replicas` that this replica is alive, and what it has to do."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from nats.errors import Error as NatsError

from contracts import subjects
from contracts.events import Replica
from contracts.job import LANES
from contracts.subjects import WORK
from services.generate_gpu.domain.completion import Keeping
from services.generate_gpu.domain.load import Load
from shared.pull import Pull
from shared.worker import Worker

log = logging.getLogger("penstock.generate.register")

EVERY_S = 1.0
_FORGET_S = 24 * 3600.0  # what nobody has pulled from for so long belonged to a process that is gone


@dataclass
class Register:
    """One replica's place in the register, and the consumers of the tasks that are sent to it by name."""

    worker: Worker
    name: str  # a new one for each process: its cache is empty, so nothing is owed to an earlier name
    engines: Mapping[str, Keeping]  # by the model's name
    slots: int
    load: Load
    _saying: asyncio.Task[None] | None = field(default=None)
    _pulls: list[Pull] = field(default_factory=list)
    _leaving: bool = False

    async def open(self) -> None:
        """Listen first, then say so."""
        settings = self.worker.settings
        for lane in LANES:
            slots = settings.interactive_slots if lane == "interactive" else settings.batch_slots
            durable, subject = subjects.consumer_of(self.name, lane), subjects.work_of(self.name, lane)
            self._pulls.append(await self.worker.pull(WORK, durable, subject, slots, inactive_s=_FORGET_S))
        await self._say()
        self._saying = asyncio.create_task(self._say_so())

    async def leave(self) -> None:
        """Nothing new is sent here, what waits goes to others, and what is in hand stays. Stop first, then say so: what
        counts as in hand must not grow while it is looked at."""
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        self._leaving = True
        try:
            await self._say()
        except NatsError as error:
            log.debug("nobody hears that %s leaves: %s", self.name, error)

    async def close(self) -> None:
        """Gone: whatever is not done goes to others."""
        if self._saying is not None:
            self._saying.cancel()
        await self._gone()

    async def _say_so(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._say()
            except NatsError as error:
                log.debug("nobody hears that %s is alive: %s", self.name, error)

    async def _say(self) -> None:
        """Who has no engine is not there: it would fail at once, and look idle to whoever chooses."""
        models = [model for model, engine in self.engines.items() if engine.ready()]
        if len(models) < len(self.engines):
            self.load.forget()
        if not models:
            await self._gone()
            return
        about = Replica(self.name, models, self.load.running, self.slots, self.load.prefixes, leaving=self._leaving)
        await self.worker.bus.nc.publish(subjects.replica(self.name), msgspec.json.encode(about))

    async def _gone(self) -> None:
        await self.worker.bus.nc.publish(subjects.replica(self.name), b"", headers={"KV-Operation": "DEL"})
