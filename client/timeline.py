"""Pure: from the audit log of a job to where its time went."""

from collections.abc import Sequence

from msgspec import Struct

from contracts.events import Hop
from contracts.item import Usage


class Span(Struct, frozen=True):
    """One hop: it waited, then it worked. Times in seconds; `start` counts from the job's first sign of life."""

    service: str
    step: str
    task: str
    start: float
    waiting: float
    working: float
    items: int
    failed: int
    attempt: int
    model: str = ""
    error: str = ""

    @property
    def end(self) -> float:
        return self.start + self.waiting + self.working


class Share(Struct, frozen=True):
    """All hops of one step together: seconds summed over shards that may have run side by side."""

    service: str
    step: str
    hops: int
    items: int
    failed: int
    waiting: float
    working: float
    retries: int
    usage: Usage


def spans(hops: Sequence[Hop]) -> list[Span]:
    """One span a hop, by the time when it began to wait. A record is written when its hop has ended."""
    if not hops:
        return []
    begin = min(_begin(hop) for hop in hops)
    found = [
        Span(
            service=hop.service,
            step=hop.step,
            task=hop.task,
            start=_begin(hop) - begin,
            waiting=hop.queued_ms / 1000,
            working=hop.took_ms / 1000,
            items=hop.items,
            failed=hop.failed,
            attempt=hop.attempt,
            model=hop.model,
            error=hop.error,
        )
        for hop in hops
    ]
    return sorted(found, key=lambda span: span.start)


def shares(hops: Sequence[Hop]) -> list[Share]:
    """Hops of the same service and step together, in the order in which they first came."""
    groups: dict[tuple[str, str], list[Hop]] = {}
    for hop in sorted(hops, key=_begin):
        groups.setdefault((hop.service, hop.step), []).append(hop)
    return [
        Share(
            service=service,
            step=step,
            hops=len(group),
            items=sum(hop.items for hop in group),
            failed=sum(hop.failed for hop in group),
            waiting=sum(hop.queued_ms for hop in group) / 1000,
            working=sum(hop.took_ms for hop in group) / 1000,
            retries=sum(hop.attempt > 1 for hop in group),
            usage=sum((hop.usage for hop in group), Usage()),
        )
        for (service, step), group in groups.items()
    ]


def bar(start: float, waiting: float, working: float, whole: float, width: int) -> tuple[str, str, str]:
    """Space before, waiting part and working part of a bar on an axis of `whole` seconds and `width` letters."""
    unit = width / whole if whole > 0 else 0.0
    before = min(int(start * unit), width - 1)
    wait = round(waiting * unit)
    work = max(1, round(working * unit))
    wait = max(0, min(wait, width - before - work))
    return " " * before, "░" * wait, "█" * min(work, width - before)


def _begin(hop: Hop) -> float:
    return hop.at - (hop.took_ms + hop.queued_ms) / 1000
