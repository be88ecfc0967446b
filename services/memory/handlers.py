"""Recall and remember."""

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.item import Item, Usage
from contracts.steps import Recall
from contracts.task import Task
from services.memory.domain import Session, Turn, messages, session_of, turn_of
from shared.errors import ItemError

SERVICE = "memory"


class Sessions(Protocol):
    """Where conversations are kept. Raises Retryable where it cannot be reached."""

    async def last(self, session: Session, turns: int) -> list[Turn]:
        """The last turns, oldest first; none of an unknown session."""

    async def append(self, session: Session, turns: Sequence[tuple[str, Turn]]) -> int:
        """Add turns, each with an id; those whose id was there before change nothing. Returns how many were added."""

    async def used(self, session: Session) -> Usage:
        """What all its turns have used, those that are kept no more included."""


async def recall(task: Task, step: Recall, sessions: Sessions) -> list[Item]:
    """Every item with the last turns of the job's session as its history."""
    if not task.options.session:
        return list(task.items)
    try:
        session = session_of(task.tenant, task.options.session)
    except ItemError as error:
        return _failed(task, error)
    history = messages(await sessions.last(session, step.turns))
    return [replace(item, history=history) for item in task.items]


async def remember(task: Task, sessions: Sessions) -> list[Item]:
    """Append each item's turn to the job's session, and note what the session has used so far.

    A task that is taken twice is remembered once.
    """
    if not task.options.session:
        return list(task.items)
    try:
        session = session_of(task.tenant, task.options.session)
    except ItemError as error:
        return _failed(task, error)
    turns = [(f"{task.id}.{item.n}", turn) for item in task.items if (turn := turn_of(item))]
    if turns:
        await sessions.append(session, turns)
    used = await sessions.used(session)
    return [replace(item, session=used) for item in task.items] if used.calls else list(task.items)


def _failed(task: Task, error: ItemError) -> list[Item]:
    return [replace(item, failure=error.failure(SERVICE)) for item in task.items]
