"""Where the time of a load went: waiting and working by lane, service and step, from the audit log."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from client.client import Penstock
from client.follow import stored
from contracts import subjects
from contracts.events import Hop
from contracts.job import Lane
from contracts.subjects import EVENTS
from loadtest.visits import BATCH


class Share(Struct, frozen=True):
    """All hops of one step; milliseconds."""

    lane: Lane
    service: str
    step: str
    hops: int
    queue_p50: float
    queue_p95: float
    work_p50: float
    work_p95: float
    retries: int


async def read(penstock: Penstock) -> list[Hop]:
    """The whole audit log of the tenant."""
    messages = stored(penstock.bus.js, EVENTS, subjects.events(penstock.tenant, "*"))
    return [msgspec.json.decode(message.data, type=Hop) async for message in messages]


def shares(hops: Iterable[Hop]) -> list[Share]:
    """By lane, in the order in which a job takes its steps."""
    groups: dict[tuple[Lane, str, str], list[Hop]] = {}
    for hop in sorted(hops, key=lambda hop: hop.at):
        groups.setdefault((_lane(hop), hop.service, hop.step), []).append(hop)
    return [_share(*key, group) for key, group in sorted(groups.items(), key=lambda found: found[0][0], reverse=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2) if ordered else 0.0


def _lane(hop: Hop) -> Lane:
    return "batch" if hop.job.startswith(BATCH) else "interactive"


def _share(lane: Lane, service: str, step: str, group: list[Hop]) -> Share:
    queued, worked = [hop.queued_ms for hop in group], [hop.took_ms for hop in group]
    return Share(
        lane, service, step, len(group), percentile(queued, 0.5), percentile(queued, 0.95), percentile(worked, 0.5),
        percentile(worked, 0.95), sum(hop.attempt > 1 for hop in group),
    )  # fmt: skip
