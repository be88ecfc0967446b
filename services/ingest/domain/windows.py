"""Cuts long text into windows that overlap."""

from collections.abc import Iterator, Sequence

from services.ingest.domain.units import Unit

CEILING = 1200
FLOOR = 800
OVERLAP = 150


def windows(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Stretches of 800–1,200 tokens, each beginning with the last 150 or so of the one before; a short text is one."""
    left = sum(unit.tokens for unit in units)  # from `start` on
    start, fresh = 0, 0  # a window begins at `start`; what it adds begins at `fresh`
    while left > CEILING:
        are_two_enough = left <= 2 * CEILING - 2 * OVERLAP
        end = _end(units, start, fresh, max(FLOOR, (left + OVERLAP) // 2) if are_two_enough else CEILING)
        yield list(units[start:end])
        begin = end - len(tail(units[fresh:end]))
        left -= sum(unit.tokens for unit in units[start:begin])
        start, fresh = begin, end
    yield list(units[start:])


def _end(units: Sequence[Unit], start: int, fresh: int, goal: int) -> int:
    """Where a window ends: the first unit that brings it to the goal, or the last before the ceiling."""
    size = 0
    for i in range(start, len(units)):
        if i > fresh and (size >= goal or size + units[i].tokens > CEILING):
            return i
        size += units[i].tokens
    return len(units)


def tail(units: Sequence[Unit]) -> list[Unit]:
    """The last units that make 150 tokens as nearly as whole units can; never all of them."""
    size = 0
    for count, unit in enumerate(reversed(units[1:])):
        if abs(size + unit.tokens - OVERLAP) >= abs(size - OVERLAP):
            return list(units[len(units) - count :])
        size += unit.tokens
    return list(units[1:])
