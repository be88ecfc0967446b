"""What a handler may say should happen next; the worker carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.item import Item
from contracts.steps import AnyStep, Merge

TRUNCATED = "truncated="
"""The note of an item whose prompt had to leave out or cut so many passages, turns and parts."""


@dataclass(frozen=True)
class Advance:
    """Go on with these items; `steps` come before the rest of the slip."""

    items: Sequence[Item]
    steps: Sequence[AnyStep] = ()
    skip: int = 0  # how many steps of the rest have been taken care of


@dataclass(frozen=True)
class Child:
    """One way that some items take; a task of its own."""

    items: Sequence[Item]
    steps: Sequence[AnyStep]


@dataclass(frozen=True)
class Spread:
    """Scatter: the children walk their ways; the parent's items take the rest of the slip when all are back."""

    items: Sequence[Item]
    children: Sequence[Child]
    merge: Merge


@dataclass(frozen=True)
class Finished:
    """Nothing is left to do for this message."""


Outcome = Advance | Spread | Finished


def truncated(item: Item) -> int:
    """How many passages, turns and parts the last prompt had to leave out or cut."""
    return next((int(note.removeprefix(TRUNCATED)) for note in item.notes[-1:] if note.startswith(TRUNCATED)), 0)
