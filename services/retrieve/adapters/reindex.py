"""Reindex: other engines, or the same ones anew, are filled from the log of documents while the ones of before serve.

A document of the log is taken as it is indexed: terms and vectors come from the statistics, nothing is encoded again.
What is indexed meanwhile goes to both. At the end the log is followed up to its newest entry, and within a moment in
which nothing is indexed the new engines take their names and questions go to them.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, get_args

from msgspec.structs import replace

from contracts.reindex import Engines, Reindexing
from services.retrieve.adapters.chosen import Chosen, choose, chosen, new_edge, with_engines
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.engines import check_engines, engines, statistics_name
from services.retrieve.adapters.live import Filling
from services.retrieve.adapters.replay import replay
from services.retrieve.adapters.search import Search
from services.retrieve.config import RetrieveSettings, VectorsIn, WordsIn
from services.retrieve.domain.ports import Log, Store
from shared.errors import PenstockError, Rejected
from shared.tls import NO_TLS, Tls

log = logging.getLogger("penstock.retrieve")

AT_ONCE = 32
"""Documents in one go: a fraction of a second, in which nothing else is indexed."""
GRACE_S = 5.0
"""What questions that are under way get to finish with the engines of before."""


class Counted(Log, Protocol):
    """The log of documents, whose entries can be counted."""

    async def count(self) -> int: ...


class Reindexer:
    """Fills engines for one open index, once at a time."""

    def __init__(
        self,
        settings: RetrieveSettings,
        folder: Path,
        search: Search,
        library: Counted,
        replica: str,
        *,
        tls: Tls = NO_TLS,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._folder = folder
        self._search = search
        self._library = library
        self._began = 0.0
        self._running: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.state = Reindexing(replica, chosen(settings, folder).serving)

    def start(self, to: Engines) -> Reindexing:
        """Begin to fill these engines, or say how far it is where that is under way. Raises Rejected for engines that
        do not exist, and where others are being filled."""
        if to.vectors not in get_args(VectorsIn) or to.words not in get_args(WordsIn):
            raise Rejected(f"no such engines: vectors in {to.vectors!r}, words in {to.words!r}")
        if self._running is None or self._running.done():
            self._began = time.monotonic()
            self.state = replace(self.state, state="filling", to=to, documents=0, of=0, passages=0, reason="")
            self._running = asyncio.create_task(self._run(to))
            self._running.add_done_callback(_say)
        elif self.state.to != to:
            raise Rejected("other engines are being filled at the moment; wait until they serve")
        return self.state

    async def close(self) -> None:
        """Break off what runs, and let go of engines that were replaced."""
        for task in (self._running, *self._retiring):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _run(self, to: Engines) -> None:
        choice = replace(chosen(self._settings, self._folder), serving=to, edge=new_edge(self._folder))
        try:
            await self._build(choice)
            self._note(state="done", serving=to)
            log.info("reindex: vectors are in %s now, words in %s", to.vectors, to.words)
        except PenstockError as error:
            log.warning("reindex: %s; the engines of before go on serving", error)
            self._note(state="failed", reason=str(error))
        finally:
            if self.state.state not in ("done", "failed"):  # an error that nobody foresaw, or the end of the process
                self._note(state="failed", reason="it broke off; see the log of retrieve")

    async def _build(self, choice: Chosen) -> None:
        settings = with_engines(self._settings, choice.serving)
        await check_engines(settings, self._tls)
        vectors, words = engines(settings, self._folder, self._tls, choice.edge)
        filling = Filling(list({id(engine): engine for engine in (vectors, words)}.values()))
        try:
            await filling.begin()
            self._search.live.filling = filling
            await self._fill(filling)
            self._note(state="catching up")
            await replay(self._library, self._search.indexer, self._search.statistics)
            async with self._search.indexer.still():
                filling.check()
                await filling.serve()
                statistics = self._search.statistics
                before = statistics.path
                await asyncio.to_thread(statistics.move_to, self._folder / statistics_name(settings))
                choose(choice, self._folder)
                earlier = self._search.live.switch(vectors, words)
        except BaseException:  # cancelled too: what is half full must neither serve nor stay
            self._search.live.filling = None
            await filling.give_up()
            raise
        task = asyncio.create_task(self._retire(earlier, before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _fill(self, filling: Filling) -> None:
        """Fill with every document of the log that is indexed; what is not, comes when the log is followed."""
        self._note(of=await self._library.count())
        waiting: list[str] = []
        tenant = ""
        async for entry in self._library.since(0):
            if waiting and (entry.tenant != tenant or len(waiting) == AT_ONCE):
                await self._copy(tenant, waiting, filling)
                waiting = []
            tenant = entry.tenant
            waiting.append(entry.id)
        if waiting:
            await self._copy(tenant, waiting, filling)

    async def _copy(self, tenant: str, documents: list[str], filling: Filling) -> None:
        written = await self._search.indexer.copy(tenant, documents, filling.fill)
        filling.check()
        self._note(documents=self.state.documents + len(documents), passages=self.state.passages + written)

    def _note(self, **changes: object) -> None:
        self.state = replace(self.state, seconds=round(time.monotonic() - self._began, 3), **changes)

    async def _retire(self, earlier: Sequence[Store], statistics: Path) -> None:
        """Close the engines of before, and delete what they have on this machine."""
        try:
            await asyncio.sleep(GRACE_S)
        finally:
            for engine in earlier:
                await (engine.discard() if isinstance(engine, Edge) else engine.close())
            self._search.statistics.delete(statistics)


def _say(running: asyncio.Task[None]) -> None:
    if not running.cancelled() and (fault := running.exception()) is not None:
        log.error("reindex broke off; the engines of before go on serving", exc_info=fault)
