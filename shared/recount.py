"""Recount: RESULTS and GROUPS hold every arrival, so a group's counters can be rebuilt from its stream."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from nats.js.api import ConsumerConfig, DeliverPolicy

from contracts import subjects
from contracts.subjects import GROUPS, RESULTS, SHARD, TALLY, Stream
from contracts.task import Cursor, Parked, Tally
from shared.bus import Bus, answered, headers_of
from shared.groups import Count, Groups

_QUIET_S = 2.0
_COUNTS_AT_ONCE = 64


@dataclass(frozen=True)
class Recounted:
    """What the stream says of a group."""

    count: Count
    missing: list[int]


async def recount(bus: Bus, groups: Groups, group: str, parked: Parked) -> Recounted:
    """Set the bits and sums of all arrivals that the stream holds; those already counted change nothing."""
    cursor = await find_cursor(bus, group)
    await groups.open(group, parked.size, cursor.mark if cursor else 0)
    stream, pattern = _where(group, parked)
    found = tallies(await arrivals(bus, stream, pattern))
    for start in range(0, len(found), _COUNTS_AT_ONCE):
        some = found[start : start + _COUNTS_AT_ONCE]
        await asyncio.gather(*(groups.arrive(group, index, counts) for index, counts in some))
    seen = {index for index, _ in found}
    missing = [index for index in range(parked.size) if index not in seen]
    count = (await groups.totals(group)).count
    more = cursor is not None and count.arrived >= cursor.mark
    return Recounted(replace(count, mark=cursor.mark) if cursor and more else count, missing)


async def find_cursor(bus: Bus, group: str) -> Cursor | None:
    """Up to where a large job has been opened; None where all of it is."""
    raw = await bus.find_parked(window_key(group))
    return None if raw is None else msgspec.msgpack.decode(raw, type=Cursor)


def window_key(group: str) -> str:
    return f"{group}/window"


def tallies(heads: Sequence[Mapping[str, str]]) -> list[tuple[int, Tally]]:
    """Index and tally of each arrival."""
    return [(index, msgspec.json.decode(head[TALLY], type=Tally)) for index, head in indexed(heads)]


def indexed(heads: Sequence[Mapping[str, str]]) -> list[tuple[int, Mapping[str, str]]]:
    """The index of each arrival, with its headers."""
    return [(int(head[SHARD].split(" ")[1]), head) for head in heads]


async def arrivals(bus: Bus, stream: Stream, pattern: str, most: int | None = None) -> list[dict[str, str]]:
    """The headers of every arrival on a subject, or of the first `most` messages; only headers travel."""
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, headers_only=True)
    subscription = await bus.patiently(
        lambda: bus.js.subscribe(pattern, stream=stream.name, ordered_consumer=True, config=config)
    )
    found: list[dict[str, str]] = []
    try:
        info = await answered(subscription.consumer_info())
        sent = info.delivered.consumer_seq if info.delivered else 0  # some of them may still be on their way
        there = sent + (info.num_pending or 0)
        for _ in range(there if most is None else min(there, most)):
            head = headers_of(await answered(subscription.next_msg(timeout=_QUIET_S)))
            if TALLY in head:
                found.append(head)
        return found
    finally:
        await subscription.unsubscribe()


def _where(group: str, parked: Parked) -> tuple[Stream, str]:
    task = parked.task
    if group == subjects.job_group(task.tenant, task.job):
        return RESULTS, subjects.result(task.tenant, task.job, "*")
    return GROUPS, subjects.arrival(group, "*")
