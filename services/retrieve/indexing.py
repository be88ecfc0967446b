"""Indexing: a document is encoded in small batches, then put in the place of its earlier revision."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from contracts.documents import Chunk, Document
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.courtesy import Courtesy
from services.retrieve.domain import facts
from services.retrieve.domain.facts import PassageFacts
from services.retrieve.ports import Entry, Store
from shared.encoder import BATCH, Encoder

T = TypeVar("T")


class Indexer:
    """Indexes one document at a time.

    First the engines, then the statistics with the revision: where a process dies in between, the revision is not
    recorded, so the document is indexed again; until then its passages are answered as they were before.
    """

    def __init__(
        self, encoder: Encoder, statistics: Statistics, stores: Sequence[Store], courtesy: Courtesy | None = None
    ) -> None:
        self._encoder = encoder
        self._statistics = statistics
        self.stores = list({id(store): store for store in stores}.values())
        self._courtesy = courtesy or Courtesy()
        self._one = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "index")

    async def put(self, tenant: str, document: Document) -> bool:
        """Make a revision findable; one without chunks removes the document. False: nothing was to be done."""
        async with self._one:
            indexed = await self._run(self._revision, tenant, document.id)
            if indexed == document.revision and document.chunks:
                return False
            if document.chunks:
                await self._replace(tenant, document)
            else:
                await self._remove(tenant, document.id)
            return bool(document.chunks) or indexed is not None

    async def remove(self, tenant: str, document: str) -> bool:
        """Forget a document. False: it was not there."""
        async with self._one:
            indexed = await self._run(self._revision, tenant, document)
            if indexed is not None:
                await self._remove(tenant, document)
            return indexed is not None

    async def close(self) -> None:
        self._thread.shutdown()

    async def _replace(self, tenant: str, document: Document) -> None:
        passages: list[PassageFacts] = []
        for start in range(0, len(document.chunks), BATCH):
            await self._courtesy.give_way()
            passages += await self._run(self._encode, tenant, document, document.chunks[start : start + BATCH])
        gathered, entry = await self._run(self._gather, tenant, document, passages)
        for store in self.stores:
            await store.replace(tenant, entry)
        await self._run(self._statistics.replace, tenant, gathered)

    async def _remove(self, tenant: str, document: str) -> None:
        for store in self.stores:
            await store.remove(tenant, document)
        await self._run(self._statistics.remove, tenant, document)

    def _encode(self, tenant: str, document: Document, chunks: Sequence[Chunk]) -> list[PassageFacts]:
        return facts.encode(tenant, document, chunks, self._encoder)

    def _gather(
        self, tenant: str, document: Document, passages: Sequence[PassageFacts]
    ) -> tuple[facts.DocumentFacts, Entry]:
        gathered = facts.gather(tenant, document, passages)
        with self._statistics.view(tenant) as view:
            had = view.collection()
        words = had.words + gathered.terms.length
        entry = facts.entry(gathered, words / (had.passages + len(passages)), words / (had.documents + 1))
        return gathered, entry

    def _revision(self, tenant: str, document: str) -> str | None:
        with self._statistics.view(tenant) as view:
            return view.revision(document)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
