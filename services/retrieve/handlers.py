"""The steps that retrieve takes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.documents import Document
from contracts.item import Failure, FailureCode, Item, Passage
from contracts.steps import Retrieve
from contracts.task import Task
from services.retrieve.domain.policy import Mode
from services.retrieve.domain.ports import Library, Look
from shared.errors import Poison
from shared.results import merge_back
from shared.turns import TURNS

SERVICE = "retrieve"


class Finds(Protocol):
    """Finds passages of one tenant."""

    async def find(
        self, tenant: str, question: str, filters: Mapping[str, str | list[str]], top: int
    ) -> list[Passage]: ...


class Indexes(Protocol):
    """Makes documents of one tenant findable."""

    async def put_all(self, tenant: str, documents: Sequence[Document]) -> list[bool]: ...


class Remembers(Protocol):
    """Finds answers that were given before, and says whether they still stand."""

    async def look(self, task: Task, step: Retrieve, mode: Mode) -> list[Look]: ...

    async def settle(self, task: Task, looks: Sequence[Look], items: Sequence[Item]) -> list[Item]: ...


async def answer_or_retrieve(
    task: Task, step: Retrieve, mode: Mode, finder: Finds, remembers: Remembers, batch: asyncio.Semaphore | None = None
) -> list[Item]:
    """Give the items that were asked before their answers, and the others passages."""
    looks = await remembers.look(task, step, mode)
    items = [look.item for look in looks]
    found = await retrieve([item for item in items if item.at_work], step, finder, tenant=task.tenant, batch=batch)
    return await remembers.settle(task, looks, merge_back(items, found))


async def retrieve(
    items: Sequence[Item], step: Retrieve, finder: Finds, *, tenant: str, batch: asyncio.Semaphore | None = None
) -> list[Item]:
    """Put the best passages of the tenant's documents into each item; a library without any gives none.

    `batch`, for those of the batch lane: so many questions of all its tasks are worked on at the same time.
    """

    async def one(item: Item) -> Item:
        if batch is None:
            return await _with_passages(item, step, finder, tenant)
        async with batch:
            await TURNS.give_way("batch")
            return await _with_passages(item, step, finder, tenant)

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _with_passages(item: Item, step: Retrieve, finder: Finds, tenant: str) -> Item:
    if not item.question.strip():
        return _failed(item, "malformed", "question: expected a text to search for, got none")
    passages = await finder.find(tenant, item.question, item.input.filters, step.top)
    return replace(item, passages=passages)


async def index(items: Sequence[Item], library: Library, indexer: Indexes, *, tenant: str) -> list[Item]:
    """Make each item's document findable, in the revision that the library has in the end.

    It is asked again after indexing: a newer revision may have come meanwhile, and another worker may have indexed it.
    """
    names = {item.document.id for item in items if item.document}
    found: dict[str, Document | Failure] = {}
    while (latest := {name: await _fetched(library, tenant, name) for name in names}) != found:
        found = latest
        await indexer.put_all(tenant, [document for document in found.values() if isinstance(document, Document)])
    return [_checked(item, found) for item in items]


async def _fetched(library: Library, tenant: str, name: str) -> Document | Failure:
    try:
        document = await library.get(tenant, name)
    except Poison as error:
        return Failure("internal", str(error), SERVICE)
    if document is None:
        return Failure("internal", f"document {name}: it is not in the log of documents any more", SERVICE)
    return document


def _checked(item: Item, found: Mapping[str, Document | Failure]) -> Item:
    if item.document is None:
        return _failed(item, "internal", "document: expected one that ingest has parsed, got none")
    outcome = found[item.document.id]
    return replace(item, failure=outcome) if isinstance(outcome, Failure) else item


def _failed(item: Item, code: FailureCode, reason: str) -> Item:
    return replace(item, failure=Failure(code, reason, SERVICE))
