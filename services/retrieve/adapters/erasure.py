"""Drops the documents of an erased tenant at once: out of what is found, out of the files, and out of what this process
remembers."""

import asyncio
import logging
from dataclasses import dataclass

import msgspec
from nats.aio.msg import Msg

from contracts.events import Forgotten
from contracts.subjects import forget
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.near import Near
from services.retrieve.adapters.replay import drop_erased
from services.retrieve.adapters.search import Search
from services.retrieve.domain.ports import Library
from shared.bus import Bus
from shared.errors import Retryable

log = logging.getLogger("penstock.retrieve")


@dataclass(frozen=True)
class Erasure:
    """Answers the operator's requests. Every replica does: each has statistics of its own."""

    bus: Bus
    library: Library
    search: Search
    near: Near
    replica: str

    async def listen(self) -> None:
        await self.bus.nc.subscribe(forget("*"), cb=self._take)

    async def _take(self, message: Msg) -> None:
        tenant = message.subject.partition(".")[2]
        try:
            removed = await drop_erased(tenant, self.library, self.search.indexer, self.search.statistics)
        except Retryable as error:
            log.warning("erasing %s: %s; following the log of documents does it later", tenant, error)
            return
        self._forget(tenant)  # one without documents has asked questions all the same
        await self.finish()
        left = sum(of == tenant for of, _ in self.search.statistics.inventory())
        await message.respond(msgspec.json.encode(Forgotten(self.replica, removed, left)))

    async def finish(self) -> None:
        """Take out of memory and files what was erased since the last time; until then they hold it where nothing finds
        it."""
        statistics = self.search.statistics
        async with self.search.indexer.still():
            if not (erased := set(statistics.erased)):
                return
            for tenant in erased:
                self._forget(tenant)
            await asyncio.to_thread(statistics.compact)
            for engine in self.search.live.written:
                if isinstance(engine, Edge):
                    await engine.compact()
            statistics.erased -= erased

    def _forget(self, tenant: str) -> None:
        self.near.forget_all(tenant)
        self.search.forget(tenant)
