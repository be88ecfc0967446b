"""Retrieve as a process: which engines, and what is opened and closed around them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from contracts.item import Item
from contracts.steps import Index, Retrieve
from contracts.task import Task
from services.retrieve.adapters.engines import FOLDER, open_search
from services.retrieve.adapters.erasure import Erasure
from services.retrieve.adapters.log import DocumentLog
from services.retrieve.adapters.lookup import Lookup
from services.retrieve.adapters.near import Near
from services.retrieve.adapters.orders import Orders
from services.retrieve.adapters.reindex import Reindexer
from services.retrieve.adapters.replay import replay
from services.retrieve.adapters.search import Search
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain.policy import mode_for
from services.retrieve.domain.ports import Log
from services.retrieve.handlers import answer_or_retrieve, index, retrieve
from shared.answers import RedisAnswers
from shared.attempts import RedisAttempts
from shared.errors import Retryable
from shared.service import Runtime, main, service

log = logging.getLogger("penstock.retrieve")

BATCH_AT_ONCE = 1
"""Questions of the batch lane: one uses both cores in turn, and more would be ahead of somebody who waits."""

PAUSE_S = 1.0
"""Between two looks at the log of documents, which other replicas write to as well."""


@asynccontextmanager
async def build(runtime: Runtime[RetrieveSettings]) -> AsyncIterator[None]:
    """Open the index, take the steps, and follow the log of documents in the background."""
    library = DocumentLog(runtime.bus)
    settings, note = runtime.settings, runtime.telemetry.looked_up
    async with open_search(settings, runtime.stack.data, runtime.stack.tls, note) as search:
        batch = asyncio.Semaphore(BATCH_AT_ONCE)
        answers = RedisAnswers(runtime.redis)
        near = Near(answers)
        lookup = Lookup(
            answers, near, search.remembering, search.questions, runtime.bus.nc, RedisAttempts(runtime.redis),
            settings.cache_ttl_s, settings.cache_similarity, note,
        )  # fmt: skip

        async def find(task: Task, step: Retrieve) -> list[Item]:
            gate = batch if task.lane == "batch" else None
            mode = mode_for(task.tenant, task.pattern, task.options, settings.cache, settings.cache_for)
            if mode != "off" and step.cache:
                return await answer_or_retrieve(task, step, mode, search.remembering, lookup, gate)
            finder = search.finder if task.options.cache == "off" else search.remembering
            return await retrieve(task.items, step, finder, tenant=task.tenant, batch=gate)

        runtime.on(Retrieve, find)
        runtime.on(Index, lambda task, _: index(task.items, library, search.indexer, tenant=task.tenant))
        erasure = Erasure(runtime.bus, library, search, near, runtime.replica)
        runtime.when_started(lambda _: erasure.listen())
        following = asyncio.create_task(follow(library, search, erasure, current := asyncio.Event()))
        following.add_done_callback(_say)
        await _wait_until(current, following, settings.catch_up_s)
        folder, name = runtime.stack.data / FOLDER, uuid4().hex[:12]
        reindexer = Reindexer(runtime.settings, folder, search, library, name, tls=runtime.stack.tls)
        runtime.when_started(lambda _: Orders(runtime.bus, reindexer).listen())
        yield
        await reindexer.close()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def follow(library: Log, search: Search, erasure: Erasure, current: asyncio.Event) -> None:
    """Apply what was logged before the start, and what comes later: removals, and what other replicas have indexed.
    What NATS cannot give now is asked for again. `current` is set once the first of it is done."""
    while True:
        try:
            changed = await replay(library, search.indexer, search.statistics)
            await erasure.finish()
            current.set()
            if changed:
                log.info("caught up with the log of documents: %d documents changed", changed)
        except Retryable as error:
            log.warning("the log of documents: %s; trying again in %.0f s", error, PAUSE_S)
        await asyncio.sleep(PAUSE_S)


async def _wait_until(current: asyncio.Event, following: asyncio.Task[None], seconds: float) -> None:
    """A replica that lacks documents would answer that they do not say: it takes no question before it has them, unless
    that takes too long."""
    waiting = asyncio.create_task(current.wait())
    done, _ = await asyncio.wait({waiting, following}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not done:
        log.warning("documents are still being indexed after %.0f s: questions may find less than there is", seconds)


def _say(following: asyncio.Task[None]) -> None:
    if not following.cancelled() and (fault := following.exception()) is not None:
        log.error("the log of documents is not followed any more: restart retrieve", exc_info=fault)


app = service(RetrieveSettings, build)

if __name__ == "__main__":
    main(app)
