"""The two steps: read documents into the library, or cut them into parts for a map-reduce."""

import time
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.documents import Document
from contracts.item import DocumentRef, IndexedDocument, Item
from contracts.steps import Parse, Sections
from services.ingest.domain.identity import document_id, revision, title
from services.ingest.domain.request import Request, Result
from shared.errors import ItemError

SERVICE = "ingest"


class Reader(Protocol):
    """Turns a file into chunks or parts."""

    async def read(self, request: Request) -> Result:
        """Raises ItemError `unreadable` or `too_large` with the file's name and what was expected."""


class Files(Protocol):
    """The bytes that users uploaded."""

    async def get_bytes(self, name: str, claim: str) -> bytes:
        """Raises ItemError `unreadable` where there is no such claim, `too_large` before it loads one that is."""


class Library(Protocol):
    """The log of documents."""

    async def get(self, tenant: str, document: str) -> Document | None:
        """The last revision of a document."""

    async def publish(self, document: Document) -> None:
        """Log a revision: it replaces the one before. Publishing it twice logs it once."""


async def parse(
    items: Sequence[Item], step: Parse, reader: Reader, files: Files, library: Library, tenant: str
) -> list[Item]:
    """Each item's document is read, cut into chunks and logged; a revision that is in the log already is left alone."""
    return [await _parsed(item, reader, files, library, tenant) for item in items]


async def _parsed(item: Item, reader: Reader, files: Files, library: Library, tenant: str) -> Item:
    try:
        return replace(item, document=await _ingest(item, reader, files, library, tenant))
    except ItemError as error:
        return replace(item, failure=error.failure(SERVICE))


async def _ingest(item: Item, reader: Reader, files: Files, library: Library, tenant: str) -> IndexedDocument:
    ref = _ref(item)
    name = document_id(ref)
    content = await _content(ref, files)
    current = revision(ref, content)
    known = await library.get(tenant, name)
    if known is not None and known.revision == current:
        return _described(known, unchanged=True)
    result = await reader.read(Request(ref.name, content, is_text=not ref.claim, document=name))
    document = Document(
        id=name,
        tenant=tenant,
        title=title(ref, result.title),
        source=ref.name,
        revision=current,
        chunks=result.chunks,
        pages=result.pages,
        metadata=ref.metadata,
        at=time.time(),
    )
    await library.publish(document)
    return _described(document)


def _described(document: Document, unchanged: bool = False) -> IndexedDocument:
    return IndexedDocument(
        id=document.id,
        title=document.title,
        revision=document.revision,
        chunks=len(document.chunks),
        tokens=sum(chunk.tokens for chunk in document.chunks),
        pages=document.pages,
        unchanged=unchanged,
    )


async def sections(items: Sequence[Item], step: Sections, reader: Reader, files: Files) -> list[Item]:
    """Each item gets its document, or its context where it has none, as parts of about `step.tokens` tokens."""
    return [await _sectioned(item, step, reader, files) for item in items]


async def _sectioned(item: Item, step: Sections, reader: Reader, files: Files) -> Item:
    try:
        if item.input.document is None and item.input.context:
            request = Request("context", item.input.context.encode(), is_text=True, tokens=step.tokens)
        else:
            ref = _ref(item)
            request = Request(ref.name, await _content(ref, files), is_text=not ref.claim, tokens=step.tokens)
        return replace(item, parts=(await reader.read(request)).parts)
    except ItemError as error:
        return replace(item, failure=error.failure(SERVICE))


def _ref(item: Item) -> DocumentRef:
    ref = item.input.document
    if ref is None:
        raise ItemError("malformed", "document: missing; expected a name, and a claim or a text")
    if not ref.name.strip():
        raise ItemError("malformed", "document.name: expected a file name, got an empty one")
    if ref.claim and ref.text:
        raise ItemError("malformed", f"document {ref.name!r}: expected either a claim or a text, got both")
    return ref


async def _content(ref: DocumentRef, files: Files) -> bytes:
    return await files.get_bytes(ref.name, ref.claim) if ref.claim else ref.text.encode()
