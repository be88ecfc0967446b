"""What has been paid for: a redelivered shard calls the model only for the rest."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct, field

from contracts.item import Completion, Usage


class Paid(Struct, frozen=True, omit_defaults=True):
    """The calls made so far for one item at one hop."""

    drawn: list[Completion] = field(default_factory=list)  # as they came, the output not yet checked
    asked: int = 0  # samples, by the calls that brought some: the next ones need other seeds
    repair: Completion | None = None
    failures: int = 0  # deliveries in which a call failed that may be repeated
    wasted: dict[str, Usage] = field(default_factory=dict)  # by model: of calls broken off, or without a text


@dataclass(frozen=True)
class Entry:
    """Where an item's calls are booked."""

    task: str
    hop: int
    n: int


class Ledger(Protocol):
    """Remembers for an hour or so. All methods raise Retryable where the store does not answer."""

    async def read(self, task: str, hop: int) -> dict[int, Paid]:
        """All that is booked for a shard at a hop, by item number."""

    async def write(self, entry: Entry, paid: Paid) -> None:
        """Book the calls of an item; replaces what was booked before."""
