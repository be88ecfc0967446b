"""The steps of retrieve, with a library and an index that are a few lines each."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from contracts.documents import Chunk, Document
from contracts.item import Failure, IndexedDocument, Input, Item, Passage
from contracts.steps import Retrieve
from services.retrieve.handlers import index, retrieve
from shared.errors import Poison


class Shelf:
    """Answers with what lies on it, from left to right; the last answer stays."""

    def __init__(self, **documents: list[Document | Poison | None]) -> None:
        self.documents = documents

    async def get(self, tenant: str, document: str) -> Document | None:
        answers = self.documents[document]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Poison):
            raise answer
        return answer


class Noted:
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.put: list[tuple[str, list[str]]] = []
        self.asked: list[tuple[str, str, Mapping[str, str | list[str]], int]] = []

    async def put_all(self, tenant: str, documents: Sequence[Document]) -> list[bool]:
        self.put.append((tenant, sorted(f"{document.id} {document.revision}" for document in documents)))
        return [True] * len(documents)

    async def find(self, tenant: str, question: str, filters: Mapping[str, str | list[str]], top: int) -> list[Passage]:
        self.asked.append((tenant, question, filters, top))
        return [Passage(chunk="c", document="d", title="t", text=question)]


def document(name: str, revision: str = "1") -> Document:
    return Document(name, "acme", name, name, revision, [Chunk(f"{name}#0", 0, "text")])


def parsed(n: int, name: str) -> Item:
    return Item(n=n, document=IndexedDocument(name, name, "1", 1, 5))


async def test_index_indexes_each_document_once() -> None:
    indexer = Noted()
    items = [parsed(0, "a"), parsed(1, "b"), parsed(2, "a")]
    assert await index(items, Shelf(a=[document("a")], b=[document("b")]), indexer, tenant="acme") == items
    assert indexer.put == [("acme", ["a 1", "b 1"])]


async def test_a_revision_that_came_meanwhile_is_indexed_too() -> None:
    indexer = Noted()
    shelf = Shelf(a=[document("a"), document("a", "2")], b=[document("b")])
    await index([parsed(0, "a"), parsed(1, "b")], shelf, indexer, tenant="acme")
    assert indexer.put[-1] == ("acme", ["a 2", "b 1"])


async def test_one_document_fails_the_others_are_indexed() -> None:
    indexer = Noted()
    shelf = Shelf(a=[document("a")], gone=[None], bad=[Poison("documents.acme.bad: not a document")])
    items = [parsed(0, "gone"), Item(n=1), parsed(2, "bad"), parsed(3, "a")]
    done = await index(items, shelf, indexer, tenant="acme")
    assert [item.failure and item.failure.reason for item in done] == [
        "document gone: it is not in the log of documents any more",
        "document: expected one that ingest has parsed, got none",
        "documents.acme.bad: not a document",
        None,
    ]
    assert {item.failure.code for item in done if item.failure} == {"internal"}
    assert indexer.put == [("acme", ["a 1"])]


async def test_retrieve_asks_for_the_tenant_with_question_filters_and_top() -> None:
    finder = Noted()
    plain = Item(n=0, input=Input(question="Who pays?", filters={"plan": ["a", "b"]}))
    rewritten = replace(plain, n=1, query="payer")
    done = await retrieve([plain, rewritten], Retrieve(top=7), finder, tenant="acme")
    assert finder.asked == [
        ("acme", "Who pays?", {"plan": ["a", "b"]}, 7),
        ("acme", "payer", {"plan": ["a", "b"]}, 7),
    ]
    assert [item.passages[0].text for item in done] == ["Who pays?", "payer"]


async def test_an_item_without_a_question_fails_alone() -> None:
    items = [Item(n=0, input=Input(question=" \n")), Item(n=1, input=Input(question="Who pays?"))]
    done = await retrieve(items, Retrieve(), Noted(), tenant="acme")
    assert done[0].failure == Failure("malformed", "question: expected a text to search for, got none", "retrieve")
    assert done[1].failure is None
