"""Pure: looks for the highest rate that is still good, doubling first, then halving the distance."""

from dataclasses import dataclass

from msgspec import Struct

STEPS = "steps: "
"""How the line begins in which locust's process says what it tried."""


class Step(Struct):
    """What one rate came to."""

    rate: int
    answered_per_s: float = 0.0
    p95_ms: float = 0.0
    failures: int = 0
    good: bool = False


@dataclass
class Search:
    """Call `next` for a rate to try and `tell` what came of it, until `next` is None."""

    rate: int = 4  # the first to try
    most: int = 4096
    within: float = 0.1  # stop where good and bad are no further apart than this share of the good one
    best: int = 0
    bad: int | None = None

    def next(self) -> int | None:
        """The rate to try now; None: found."""
        if self.bad is None:
            return self.rate if self.best < self.most else None
        if self.bad - self.best <= max(1, self.best * self.within):
            return None
        return self.rate

    def tell(self, good: bool) -> None:
        """Whether the rate that `next` gave was good."""
        if good:
            self.best = self.rate
        else:
            self.bad = self.rate
        self.rate = min(self.most, self.best * 2) if self.bad is None else (self.best + self.bad) // 2
