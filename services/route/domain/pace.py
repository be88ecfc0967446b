"""How many items a shard holds: as many as take about two seconds, judging by the last jobs of the kind."""

from dataclasses import dataclass

from contracts.task import Tally

SPREAD = 32
"""A job is cut into at least so many shards, where they keep the least size, so that replicas share it."""
_NEWS = 0.5  # how much of the remembered pace the last job replaces


@dataclass(frozen=True)
class Cut:
    """Bounds of a shard: `least` and `most` items, about so many `seconds` of work and `bytes` of input."""

    least: int
    most: int
    seconds: float
    bytes: int


def shard_size(items: int, size_bytes: int, pace: float | None, cut: Cut) -> int:
    """Items a shard for a job of so many items and bytes; `pace` is in seconds an item, None where it is not known.

    It never falls below the least: items of a shard run at the same time, so smaller shards would only make slow
    models wait.
    """
    by_time = cut.least if pace is None else int(cut.seconds / max(pace, 1e-6))
    by_bytes = cut.bytes * items // max(size_bytes, 1)
    by_spread = -(-items // SPREAD)
    return max(1, min(max(cut.least, min(by_time, by_spread, cut.most)), max(by_bytes, 1)))


def pace_of(counts: Tally) -> float | None:
    """Seconds an item, as the services of a finished job spent them; None where there was nothing to measure."""
    items = counts.succeeded + counts.failed
    return counts.spent_ms / 1000 / items if counts.succeeded else None


def smoothed(before: float | None, seen: float) -> float:
    return seen if before is None else before + _NEWS * (seen - before)
