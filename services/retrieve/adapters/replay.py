"""Replay: what the log of documents has and the index has not."""

import logging

from contracts.subjects import ERASED
from services.retrieve.adapters.indexing import Indexer
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.ports import Head, Library, Log
from shared.errors import Poison

log = logging.getLogger("penstock.retrieve")


async def replay(entries: Log, indexer: Indexer, statistics: Statistics) -> int:
    """Apply the log from the checkpoint on; returns how many documents have changed.

    An entry is applied before the checkpoint passes it, and applying one twice changes nothing, so a replay may be
    stopped anywhere. An entry that cannot be read is said in the process's log and passed over; what was indexed of
    that document stays. A log that is another than before is applied from its start, and what it lacks is removed.
    """
    head, done = await entries.head(), statistics.checkpoint()
    is_another = head.log != done.log
    missing = statistics.inventory() if is_another else set()
    changed = 0
    async for entry in entries.since(0 if is_another else done.sequence):
        missing.discard((entry.tenant, entry.id))
        if entry.id == ERASED:
            changed += await drop_erased(entry.tenant, entries, indexer, statistics)
        elif entry.document is None:
            log.warning("document %s of tenant %s cannot be indexed: %s", entry.id, entry.tenant, entry.fault)
        else:
            changed += await indexer.put(entry.tenant, entry.document)
        if not is_another:
            statistics.set_checkpoint(Head(head.log, entry.sequence))
    for tenant, document in sorted(missing):
        changed += await indexer.remove(tenant, document)
    if is_another:
        statistics.set_checkpoint(head)
    return changed


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
