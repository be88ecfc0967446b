"""Shares of the slots for people: how many of them one model may hold.

A provider that hangs keeps every call until its breaker opens, some seconds later. Were all slots its own, people who
ask other models would wait as long. So the tasks of a model behind an endpoint may hold three quarters of what those of
other models leave free, and the next one comes back a little later; two models that hang leave a part of the rest, too.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.errors import Later

SHARE = 0.75
LONGEST_S = 2.0
"""That a task stays away for: when the breaker has opened, or the model is back, it should not be much longer."""
_SHORTEST_S = 0.1
_USUAL_S = 0.5  # that a task takes, before the first one has shown it
_NEW = 0.2  # weight of the last task in the mean


@dataclass
class Shares:
    """The interactive slots of this process. `clock`: seconds, monotonic."""

    slots: int
    clock: Callable[[], float] = time.monotonic
    _held: Counter[str] = field(default_factory=Counter)
    _mean_s: dict[str, float] = field(default_factory=dict)  # that a task of a model holds its slot
    _free_at: dict[str, float] = field(default_factory=dict)  # when the next one that comes back should find room

    def most(self, model: str) -> int:
        """Slots that a model may hold now: at least one."""
        others = self._held.total() - self._held[model]
        return max(1, int(SHARE * (self.slots - others)))

    @contextmanager
    def held(self, model: str, *, bounded: bool) -> Iterator[None]:
        """Around a task. Raises Later where the model is bounded and holds what it may."""
        most = self.most(model)
        if bounded and self._held[model] >= most:
            reason = f"waits for room: {self._held[model]} tasks of the model {model!r} are under way"
            raise Later(reason, after=self._turn_s(model, most))
        self._held[model] += 1
        began = self.clock()
        try:
            yield
        finally:
            self._held[model] -= 1
            took = self.clock() - began
            self._mean_s[model] = (1 - _NEW) * self._mean_s.get(model, took) + _NEW * took

    def _turn_s(self, model: str, most: int) -> float:
        """Those that wait come back one after the other, as fast as slots become free, not all at once."""
        now = self.clock()
        gap = self._mean_s.get(model, _USUAL_S) / most
        turn = max(now, self._free_at.get(model, now)) + gap
        self._free_at[model] = min(turn, now + LONGEST_S)
        return min(max(turn - now, _SHORTEST_S), LONGEST_S)
