"""The index as one thing: engines, statistics, encoder, and who finds and indexes with them."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.retrieve.adapters.find import Finder
from services.retrieve.adapters.indexing import Indexer
from services.retrieve.adapters.live import Live
from services.retrieve.adapters.memory import QuestionVectors, RememberingFinder
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.courtesy import Courtesy
from services.retrieve.domain.ports import Note, Store, Vectors, Words, unnoted
from shared.encoder import Encoder
from shared.errors import Poison
from shared.settings import SettingsError

_LOOKS, _PAUSE_S = 4, 1.0


@dataclass(frozen=True)
class Search:
    """An open index."""

    finder: Finder
    remembering: RememberingFinder
    questions: QuestionVectors
    indexer: Indexer
    statistics: Statistics
    encoder: Encoder
    live: Live

    def forget(self, tenant: str) -> None:
        """Drop what is remembered of a tenant's questions and what was found for them."""
        self.questions.forget(tenant)
        self.remembering.forget(tenant)


@asynccontextmanager
async def opened(
    encoder: Encoder,
    statistics: Statistics,
    vectors: Vectors,
    words: Words,
    note: Note = unnoted,
    ttl_s: float = math.inf,
) -> AsyncIterator[Search]:
    """Open engines and statistics.

    Where an engine is new, the statistics begin anew too, so that a replay of the log of documents fills both. New
    statistics on an older engine need no more than the replay: it replaces point by point, and points that the
    statistics do not know are never given out. What was found for a question is remembered for `ttl_s`.
    """
    courtesy = Courtesy()
    live = Live(vectors, words)
    indexer = Indexer(encoder, statistics, live, courtesy, note)
    finder = Finder(encoder, statistics.view, live, live, courtesy)
    questions = QuestionVectors(encoder, note)
    quick = Finder(encoder, statistics.view, live, live, courtesy, questions.encode)
    remembering = RememberingFinder(quick, statistics, note, ttl_s)
    statistics.open()
    try:
        for store in live.engines:
            if await _open(store):
                statistics.clear()  # at once: the next engine may fail to open, and this one is empty all the same
        yield Search(finder, remembering, questions, indexer, statistics, encoder, live)
    finally:
        await finder.close()
        await quick.close()
        await indexer.close()
        await live.close()
        statistics.close()


async def _open(store: Store) -> bool:
    """Where two replicas start on a new server, one finds what it is about to make made meanwhile: it looks again."""
    for _ in range(_LOOKS):
        try:
            return await store.open()
        except (SettingsError, Poison):
            await asyncio.sleep(_PAUSE_S)
    return await store.open()
