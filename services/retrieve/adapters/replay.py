"""Replay: what the log of documents has and the index has not."""

import logging
from collections.abc import AsyncIterator, Sequence

from contracts.documents import Document
from contracts.subjects import ERASED
from services.retrieve.adapters.indexing import Indexer
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.ports import Entered, Head, Library, Log
from shared.errors import Poison

log = logging.getLogger("penstock.retrieve")

AT_ONCE = 32
"""Documents of the log that are looked at together."""
_NOT_INDEXED = "document %s of tenant %s cannot be indexed: %s"


async def replay(entries: Log, indexer: Indexer, statistics: Statistics) -> int:
    """Apply the log from the checkpoint on; returns how many documents have changed.

    An entry is applied before the checkpoint passes it, and applying one twice changes nothing, so a replay may be
    stopped anywhere. An entry that cannot be read, or that an engine does not take, is said in the process's log and
    passed over; what was indexed of that document stays. A log that is another than before is applied from its start,
    and what it lacks is removed.
    """
    head, done = await entries.head(), statistics.checkpoint()
    is_another = head.log != done.log
    missing = statistics.inventory() if is_another else set()
    changed = 0
    async for group in _groups(entries.since(0 if is_another else done.sequence)):
        missing -= {(entry.tenant, entry.id) for entry in group}
        last = group[-1]
        if last.id == ERASED:
            changed += await drop_erased(last.tenant, entries, indexer, statistics)
        elif last.document is None:
            log.warning(_NOT_INDEXED, last.id, last.tenant, last.fault)
        else:
            documents = [entry.document for entry in group if entry.document is not None]
            changed += await _put(indexer, last.tenant, documents)
        if not is_another:
            statistics.set_checkpoint(Head(head.log, last.sequence))
    for tenant, document in sorted(missing):
        changed += await indexer.remove(tenant, document)
    if is_another:
        statistics.set_checkpoint(head)
    return changed


async def _groups(entries: AsyncIterator[Entered]) -> AsyncIterator[list[Entered]]:
    """Different documents of one tenant together, as many as go to the engines at once; other entries by themselves."""
    group: list[Entered] = []
    async for entry in entries:
        alone = entry.document is None or entry.id == ERASED
        is_other = (group and group[0].tenant != entry.tenant) or entry.id in {one.id for one in group}
        if group and (alone or is_other or len(group) == AT_ONCE):
            yield group
            group = []
        group.append(entry)
        if alone:
            yield group
            group = []
    if group:
        yield group


async def _put(indexer: Indexer, tenant: str, documents: Sequence[Document]) -> int:
    try:
        return sum(await indexer.put_all(tenant, documents))
    except Poison as error:
        if len(documents) == 1:
            log.warning(_NOT_INDEXED, documents[0].id, tenant, error)
            return 0
    return sum([await _put(indexer, tenant, [document]) for document in documents])


async def drop_erased(tenant: str, library: Library, indexer: Indexer, statistics: Statistics) -> int:
    """Remove those documents of a tenant that the log does not have any more; returns how many that were."""
    removed = 0
    for document in sorted(document for of, document in statistics.inventory() if of == tenant):
        try:
            if await library.get(tenant, document) is not None:
                continue
        except Poison:
            continue  # it is there, and cannot be read
        removed += await indexer.remove(tenant, document)
        statistics.erased.add(tenant)
    return removed
