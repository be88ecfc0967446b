"""Recount: RESULTS and GROUPS hold every arrival, so a group's counters can be rebuilt from its stream."""

from dataclasses import dataclass

import msgspec
from nats.js.api import ConsumerConfig, DeliverPolicy

from contracts import subjects
from contracts.item import Failure, Item
from contracts.subjects import GROUPS, RESULTS, SHARD, TALLY, Stream
from contracts.task import Parked, Tally, Task
from shared.bus import Bus, answered
from shared.groups import Count, Groups

_QUIET_S = 2.0


@dataclass(frozen=True)
class Recounted:
    """What the stream says of a group."""

    count: Count
    missing: list[int]

    def failed_child(self, parked: Parked, group: str, index: int) -> Task:
        """A child that did not arrive in time, as a failed one. Its items are not known here, only their parent's."""
        failure = Failure("deadline_exceeded", "deadline exceeded: the group's time was over", "route")
        parent = parked.task
        numbers = [item.n for item in parent.items] or list(_shard_range(parked, index))
        return msgspec.structs.replace(
            parent,
            id=f"{group}/{index}",
            group=group,
            index=index,
            items=[Item(n=n, failure=failure) for n in numbers],
            steps=[],
        )


async def recount(bus: Bus, groups: Groups, group: str, parked: Parked) -> Recounted:
    """Set the bits and sums of all arrivals that the stream holds; those already counted change nothing."""
    await groups.open(group, parked.size)
    stream, pattern = _where(group, parked)
    seen: set[int] = set()
    count = Count(0, parked.size)
    for index, counts in await _tallies(bus, stream, pattern):
        seen.add(index)
        count = await groups.arrive(group, index, counts)
    return Recounted(count, [index for index in range(parked.size) if index not in seen])


async def _tallies(bus: Bus, stream: Stream, pattern: str) -> list[tuple[int, Tally]]:
    """Index and tally of every arrival on a subject; only headers travel."""
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, headers_only=True)
    subscription = await answered(bus.js.subscribe(pattern, stream=stream.name, ordered_consumer=True, config=config))
    found: list[tuple[int, Tally]] = []
    try:
        left = (await answered(subscription.consumer_info())).num_pending or 0
        while left or subscription.pending_msgs:
            message = await answered(subscription.next_msg(timeout=_QUIET_S))
            head = message.headers or {}
            if TALLY in head:
                found.append((int(head[SHARD].split(" ")[1]), msgspec.json.decode(head[TALLY], type=Tally)))
            left = message.metadata.num_pending
        return found
    finally:
        await subscription.unsubscribe()


def _where(group: str, parked: Parked) -> tuple[Stream, str]:
    task = parked.task
    if group == subjects.job_group(task.tenant, task.job):
        return RESULTS, subjects.result(task.tenant, task.job, "*")
    return GROUPS, subjects.arrival(group, "*")


def _shard_range(parked: Parked, index: int) -> range:
    size = parked.shard_size
    return range(index * size, min((index + 1) * size, parked.items))
