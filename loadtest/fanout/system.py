"""What all systems of the fan-out bench have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from client.stack.info import StackInfo


@dataclass(frozen=True)
class Measured:
    """One measurement: all `items` came back; seconds from submission until the client had them."""

    items: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.items / self.seconds


@dataclass(frozen=True)
class System:
    """A system to measure. `slow`: measured once, where N is large."""

    name: str
    title: str
    measure: Callable[[StackInfo, int], Measured]
    slow: bool = False


class Incomplete(Exception):
    """A system did not bring all results back; its number would mean nothing."""
