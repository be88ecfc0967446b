"""The steps that retrieve takes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.documents import Document
from contracts.item import Failure, FailureCode, Item, Passage
from contracts.steps import Retrieve
from services.retrieve.domain.ports import Library


class Finds(Protocol):
    """Finds passages of one tenant."""

    async def find(
        self, tenant: str, question: str, filters: Mapping[str, str | list[str]], top: int
    ) -> list[Passage]: ...


class Indexes(Protocol):
    """Makes documents of one tenant findable."""

    async def put_all(self, tenant: str, documents: Sequence[Document]) -> list[bool]: ...


async def retrieve(items: Sequence[Item], step: Retrieve, finder: Finds, *, tenant: str) -> list[Item]:
    """Put the best passages of the tenant's documents into each item; a library without any gives none."""
    return list(await asyncio.gather(*(_with_passages(item, step, finder, tenant) for item in items)))


async def _with_passages(item: Item, step: Retrieve, finder: Finds, tenant: str) -> Item:
    if not item.question.strip():
        return _failed(item, "malformed", "question: expected a text to search for, got none")
    passages = await finder.find(tenant, item.question, item.input.filters, step.top)
    return replace(item, passages=passages)


async def index(items: Sequence[Item], library: Library, indexer: Indexes, *, tenant: str) -> list[Item]:
    """Make each item's document findable, in the revision that the library has now."""
    found = {name: await library.get(tenant, name) for name in {item.document.id for item in items if item.document}}
    await indexer.put_all(tenant, [document for document in found.values() if document is not None])
    return [_checked(item, found) for item in items]


def _checked(item: Item, found: Mapping[str, Document | None]) -> Item:
    if item.document is None:
        return _failed(item, "internal", "document: expected one that ingest has parsed, got none")
    if found[item.document.id] is None:
        return _failed(item, "internal", f"document {item.document.id}: it is not in the log of documents any more")
    return item


def _failed(item: Item, code: FailureCode, reason: str) -> Item:
    return replace(item, failure=Failure(code, reason, "retrieve"))
