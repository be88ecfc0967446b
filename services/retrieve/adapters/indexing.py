"""Indexing: a document is encoded in small batches, then put in the place of its earlier revision."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from contracts.documents import Document
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain import facts
from services.retrieve.domain.courtesy import Courtesy
from services.retrieve.domain.facts import DocumentFacts, PassageFacts
from services.retrieve.domain.ports import Entry, Level, Note, Store, unnoted
from shared.encoder import BATCH, Encoder

AT_ONCE = 2 * BATCH
"""So many passages are encoded before a waiting question may go first: about half a second."""

TOGETHER = 256
"""So many passages, in whole documents, go to the engines at once: a server makes all of them findable in the time that
it takes for one, and no more of them wait in memory."""

T = TypeVar("T")
Gathered = tuple[DocumentFacts, Entry]


class Indexer:
    """Indexes one document at a time.

    First the engines, then the statistics with the revision: where a process dies in between, the revision is not
    recorded, so the document is indexed again; until then its passages are answered as they were before.
    """

    def __init__(
        self, encoder: Encoder, statistics: Statistics, store: Store, courtesy: Courtesy | None = None,
        note: Note = unnoted,
    ) -> None:  # fmt: skip
        self._encoder = encoder
        self._statistics = statistics
        self._store = store
        self._courtesy = courtesy or Courtesy()
        self._note = note
        self._one = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "index")

    async def put(self, tenant: str, document: Document) -> bool:
        """Make a revision findable; one without chunks removes the document. False: nothing was to be done."""
        return (await self.put_all(tenant, [document]))[0]

    async def put_all(self, tenant: str, documents: Sequence[Document]) -> list[bool]:
        """The same for several documents, each with an id of its own, which are encoded together and take effect in
        groups; all of them have when it returns."""
        async with self._one:
            indexed = await self._run(self._revisions, tenant, documents)
            changed = [
                document.revision != revision if document.chunks else revision is not None
                for document, revision in zip(documents, indexed, strict=True)
            ]
            for document in documents:
                if not document.chunks:
                    await self._remove(tenant, document.id)
            news = [document for document, new in zip(documents, changed, strict=True) if new and document.chunks]
            await self._replace_all(tenant, news)
            return changed

    async def remove(self, tenant: str, document: str) -> bool:
        """Forget a document. False: it was not there."""
        async with self._one:
            with self._statistics.view(tenant) as view:
                indexed = view.revision(document) is not None
            await self._remove(tenant, document)
            return indexed

    async def copy(
        self, tenant: str, documents: Sequence[str], into: Callable[[str, list[Entry]], Awaitable[None]]
    ) -> int:
        """Give what is indexed of these documents to another engine; nothing is indexed meanwhile. Returns how many
        passages that were."""
        await self._courtesy.give_way()
        async with self._one:
            entries = await self._run(self._entries, tenant, documents)
            await into(tenant, entries)
            return sum(point.level is Level.PASSAGE for entry in entries for point in entry.points)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nothing is indexed within the block."""
        async with self._one:
            yield

    async def close(self) -> None:
        self._thread.shutdown()

    async def _replace_all(self, tenant: str, documents: Sequence[Document]) -> None:
        """Passages that an earlier revision of their document had too are not encoded again."""
        reused = [await self._run(self._reused, tenant, document) for document in documents]
        waiting = [
            (document, chunk)
            for document, known in zip(documents, reused, strict=True)
            for chunk, had in zip(document.chunks, known, strict=True)
            if had is None
        ]
        encoded: deque[PassageFacts] = deque()
        group: list[Gathered] = []
        start = 0
        for document, known in zip(documents, reused, strict=True):
            while len(encoded) < sum(had is None for had in known):
                await self._courtesy.give_way()
                encoded += await self._run(facts.encode, tenant, waiting[start : start + AT_ONCE], self._encoder)
                start += AT_ONCE
            passages = [had or encoded.popleft() for had in known]
            group.append(await self._run(self._gather, tenant, document, passages, [one for one, _ in group]))
            if sum(len(one.passages) for one, _ in group) >= TOGETHER:
                await self._replace(tenant, group)
                group = []
        await self._replace(tenant, group)

    def _reused(self, tenant: str, document: Document) -> list[PassageFacts | None]:
        with self._statistics.view(tenant) as view:
            known = view.encoded(document.id)
        found = [facts.reused(tenant, document, chunk, known) for chunk in document.chunks]
        self._note("passage", "hit", sum(had is not None for had in found))
        self._note("passage", "miss", sum(had is None for had in found))
        return found

    async def _replace(self, tenant: str, group: Sequence[Gathered]) -> None:
        if not group:
            return
        await self._store.replace(tenant, *(entry for _, entry in group))
        for gathered, _ in group:
            await self._run(self._statistics.replace, tenant, gathered)

    async def _remove(self, tenant: str, document: str) -> None:
        await self._store.remove(tenant, document)
        await self._run(self._statistics.remove, tenant, document)

    def _gather(
        self, tenant: str, document: Document, passages: Sequence[PassageFacts], ahead: Sequence[DocumentFacts]
    ) -> Gathered:
        """`ahead`: of the same group, and not in the statistics yet."""
        gathered = facts.gather(tenant, document, passages)
        with self._statistics.view(tenant) as view:
            had = view.collection()
        news = [*ahead, gathered]
        words = had.words + sum(one.terms.length for one in news)
        of_passages = had.passages + sum(len(one.passages) for one in news)
        return gathered, facts.entry(gathered, words / of_passages, words / (had.documents + len(news)))

    def _entries(self, tenant: str, documents: Sequence[str]) -> list[Entry]:
        with self._statistics.view(tenant) as view:
            had = view.collection()
            means = (had.words / max(had.passages, 1), had.words / max(had.documents, 1))
            found = [view.facts(document) for document in documents]
        return [facts.entry(one, *means) for one in found if one is not None]

    def _revisions(self, tenant: str, documents: Sequence[Document]) -> list[str | None]:
        with self._statistics.view(tenant) as view:
            return [view.revision(document.id) for document in documents]

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
