"""Gather: read what the children of a group brought and put it together with the parked parent."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from contracts import subjects
from contracts.item import Failure, Item, Part
from contracts.subjects import GROUPS
from contracts.task import Arrival, Parked, Task
from shared.bus import Bus
from shared.results import total

_READS_AT_ONCE = 64

LOST = Failure("internal", "a part of the work did not come back", "gather")


async def children_of(bus: Bus, group: str, size: int) -> list[Arrival]:
    """What all children brought, in the order of their indices. A child without a result is left out."""
    gate = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(index: int) -> Arrival | None:
        async with gate:
            message = await bus.last(GROUPS, subjects.arrival(group, index))
        return None if message is None else msgspec.msgpack.decode(message.data or b"", type=Arrival)

    found = await asyncio.gather(*(read(index) for index in range(size)))
    return [arrival for arrival in found if arrival is not None]


def merged(parked: Parked, children: Sequence[Arrival]) -> Task:
    """The parent with its children's results: as parts, or in the place of its own items."""
    by_item: dict[int, list[Item]] = defaultdict(list)
    for child in (item for arrival in children for item in arrival.items):
        by_item[child.n].append(child)
    join = _as_parts if parked.merge == "parts" else _as_items
    items = [join(item, by_item[item.n]) if item.at_work else item for item in parked.task.items]
    spent_s = parked.task.spent_s + sum(arrival.spent_s for arrival in children)
    return msgspec.structs.replace(parked.task, items=items, spent_s=spent_s)


def lost_child(parked: Parked, group: str, index: int, failure: Failure) -> Task:
    """A child that will not come back, as a failed one; its items as far as the parent knows them."""
    return msgspec.structs.replace(
        parked.task,
        id=f"{group}/{index}",
        group=group,
        index=index,
        items=_lost_items(parked, index, failure),
        steps=[],
    )


def _lost_items(parked: Parked, index: int, failure: Failure) -> list[Item]:
    """Of a job's own group only the numbers are known; a branch carries the whole item, a part its place."""
    if not parked.task.items:
        shard = range(index * parked.shard_size, min((index + 1) * parked.shard_size, parked.items))
        return [Item(n=n, failure=failure) for n in shard]
    places = parked.children[index] if index < len(parked.children) else []
    if parked.merge == "parts":
        return [Item(n=n, part=part, failure=failure) for n, part in places]
    known = {item.n: item for item in parked.task.items}
    return [msgspec.structs.replace(known[n], failure=failure) for n, _ in places]


def _as_parts(item: Item, children: list[Item]) -> Item:
    parts = sorted((_part(child) for child in children), key=lambda part: part.index)
    return msgspec.structs.replace(item, parts=parts, usage=item.usage + total(children))


def _as_items(item: Item, children: list[Item]) -> Item:
    """A branch carries the whole item on, its usage included."""
    return children[0] if children else msgspec.structs.replace(item, failure=LOST)


def _part(child: Item) -> Part:
    answer = child.answer
    if child.failure is not None or answer is None:
        return Part(index=child.part, failure=child.failure or LOST)
    return Part(
        index=child.part, text=answer.text, data=answer.data, quotes=answer.quotes, rung=answer.rung, why=answer.why
    )
