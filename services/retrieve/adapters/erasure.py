"""Drops the documents of an erased tenant at once, and out of the files as well as out of what is found."""

import asyncio
import logging
from dataclasses import dataclass

import msgspec
from nats.aio.msg import Msg

from contracts.events import Forgotten
from contracts.subjects import forget
from services.retrieve.adapters.edge import Edge
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
        await compact(self.search)
        left = sum(of == tenant for of, _ in self.search.statistics.inventory())
        await message.respond(msgspec.json.encode(Forgotten(self.replica, removed, left)))


async def compact(search: Search) -> None:
    """Take out of the files what was erased since the last time; until then they hold it where nothing finds it."""
    async with search.indexer.still():
        if not search.statistics.has_erased:
            return
        await asyncio.to_thread(search.statistics.compact)
        for engine in search.live.written:
            if isinstance(engine, Edge):
                await engine.compact()
        search.statistics.has_erased = False
