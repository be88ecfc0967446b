"""Parse and Sections: items in, items out; a bad document fails alone."""

from files import LIMITS

from contracts.documents import Document
from contracts.item import DocumentRef, Input, Item
from contracts.steps import Parse, Sections
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.reading import read
from services.ingest.domain.chunks import cut
from services.ingest.domain.parts import split
from services.ingest.domain.request import Request, Result
from services.ingest.handlers import parse, sections
from shared.errors import ItemError


class HereReader:
    """Reads in this process, and counts."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.count = 0

    async def read(self, request: Request) -> Result:
        self.count += 1
        reading = read(request.name, request.content, request.is_text, self.limits)
        if request.tokens:
            return Result(reading.title, reading.pages, parts=split(reading, request.tokens))
        return Result(reading.title, reading.pages, chunks=cut(request.document, reading))


class Shelf:
    """Uploads and the log of documents, in memory."""

    def __init__(self, **uploads: bytes) -> None:
        self.uploads = uploads
        self.documents: dict[tuple[str, str], Document] = {}
        self.published: list[Document] = []

    async def get_bytes(self, name: str, claim: str) -> bytes:
        if claim not in self.uploads:
            raise ItemError("unreadable", f"{name}: no upload {claim!r}")
        return self.uploads[claim]

    async def get(self, tenant: str, document: str) -> Document | None:
        return self.documents.get((tenant, document))

    async def publish(self, document: Document) -> None:
        self.documents[document.tenant, document.id] = document
        self.published.append(document)


def items(*refs: DocumentRef | None) -> list[Item]:
    return [Item(n, Input(document=ref)) for n, ref in enumerate(refs)]


async def ingest(shelf: Shelf, *refs: DocumentRef | None, reader: HereReader | None = None) -> list[Item]:
    return await parse(items(*refs), Parse(), reader or HereReader(), shelf, shelf, "acme")


async def test_a_document_is_read_logged_and_described() -> None:
    shelf = Shelf(c1=b"# Manual\n\n## 2.2 Carry-over\n\nFive days carry over.\n")
    [item] = await ingest(shelf, DocumentRef("manual.md", claim="c1", metadata={"team": "hr"}))
    [document] = shelf.published
    assert item.document is not None
    assert (item.document.id, item.document.title, item.document.chunks) == ("manual-md", "Manual", 1)
    assert item.document.tokens == sum(chunk.tokens for chunk in document.chunks) > 0
    assert (document.tenant, document.source, document.metadata) == ("acme", "manual.md", {"team": "hr"})
    assert [(chunk.id, chunk.clause) for chunk in document.chunks] == [("manual-md#0", "2.2")]


async def test_unchanged_content_is_neither_read_nor_logged_again() -> None:
    shelf, reader = Shelf(c1=b"Five days carry over."), HereReader()
    ref = DocumentRef("manual.txt", claim="c1")
    first, second = [(await ingest(shelf, ref, reader=reader))[0].document for _ in range(2)]
    assert first is not None
    assert second is not None
    assert (first.unchanged, second.unchanged) == (False, True)
    assert (second.revision, second.chunks, second.tokens) == (first.revision, first.chunks, first.tokens)
    assert reader.count == len(shelf.published) == 1


async def test_changed_content_replaces_the_document_under_its_id() -> None:
    shelf = Shelf(c1=b"Five days carry over.", c2=b"Six days carry over.")
    await ingest(
        shelf, DocumentRef("manual.txt", claim="c1"), DocumentRef("other name.txt", claim="c2", id="manual-txt")
    )
    assert len(shelf.documents) == 1
    assert shelf.documents["acme", "manual-txt"].chunks[0].text == "Six days carry over."


async def test_a_text_given_with_the_reference_is_read_like_a_file() -> None:
    shelf = Shelf()
    [item] = await ingest(shelf, DocumentRef("note.md", text="## 1 Term\n\nIt begins now."))
    assert item.document is not None
    assert shelf.published[0].chunks[0].clause == "1"


async def test_bad_documents_fail_alone_and_in_their_place() -> None:
    shelf = Shelf(good=b"Five days carry over.", bad=b"Caf\xe9")
    done = await ingest(
        shelf,
        DocumentRef("bad.txt", claim="bad"),
        DocumentRef("good.txt", claim="good"),
        DocumentRef("lost.txt", claim="lost"),
        None,
        DocumentRef(" ", claim="good"),
        DocumentRef("both.txt", claim="good", text="words"),
        DocumentRef("id.txt", claim="good", id="no spaces please"),
        DocumentRef("neither.txt"),
    )
    assert [item.n for item in done] == list(range(8))
    failures = [
        (item.failure.code, item.failure.service, item.failure.reason) if item.failure else None for item in done
    ]
    assert failures == [
        (
            "unreadable",
            "ingest",
            "bad.txt: not valid UTF-8 at byte 3 (0xe9); expected UTF-8, or UTF-16 with a byte order mark",
        ),
        None,
        ("unreadable", "ingest", "lost.txt: no upload 'lost'"),
        ("malformed", "ingest", "document: missing; expected a name, and a claim or a text"),
        ("malformed", "ingest", "document.name: expected a file name, got an empty one"),
        ("malformed", "ingest", "document 'both.txt': expected either a claim or a text, got both"),
        ("malformed", "ingest", "document.id: expected 1–64 letters, digits, - and _, got 'no spaces please'"),
        ("unreadable", "ingest", "neither.txt: the document is empty"),
    ]
    assert [document.id for document in shelf.published] == ["good-txt"]


async def test_sections_of_a_document_and_of_a_context() -> None:
    shelf = Shelf(c1=b"1. Term. It begins now.\n\n2. Law. Utah.\n" * 1)
    given = [
        Item(0, Input(document=DocumentRef("contract.txt", claim="c1"))),
        Item(1, Input(context="The plan covers physiotherapy. " * 60)),
        Item(2, Input()),
        Item(3, Input(context="  ")),
    ]
    done = await sections(given, Sections(tokens=100), HereReader(), shelf)
    assert [part.text for part in done[0].parts] == ["1. Term. It begins now.\n\n2. Law. Utah."]
    assert [part.index for part in done[1].parts] == list(range(len(done[1].parts)))
    assert len(done[1].parts) > 2
    assert done[2].failure is not None
    assert done[2].failure.code == "malformed"
    assert done[3].failure is not None
    assert done[3].failure.reason == "context: the document is empty"
