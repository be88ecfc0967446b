"""Libraries for tests of retrieval: documents of random words, and an index opened on a folder."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fake_encoder import FakeEncoder

from contracts.documents import Chunk, Document
from contracts.item import Passage
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.ports import Note, unnoted
from shared.encoder import Encoder

WORDS = [
    f"{a}{b}" for a in ("ba", "de", "fi", "go", "ku", "la", "me", "ni") for b in ("rat", "lon", "mik", "sov", "tup")
]


def document(name: str, *texts: str, tenant: str = "acme", revision: str = "1", **metadata: str) -> Document:
    chunks = [Chunk(f"{name}#{n}", n, text) for n, text in enumerate(texts)]
    return Document(name, tenant, f"Title of {name}", f"{name}.txt", revision, chunks, metadata=metadata)


def sentence(rng: random.Random, words: Sequence[str] = WORDS) -> str:
    return " ".join(rng.choices(words, k=rng.randint(6, 14))).capitalize() + "."


def library(seed: int, sizes: Sequence[int], tenant: str = "acme") -> list[Document]:
    """Documents with so many passages; each has favourite words of its own."""
    rng = random.Random(seed)
    documents = []
    for n, size in enumerate(sizes):
        words = WORDS + rng.sample(WORDS, 4) * 6
        texts = [" ".join(sentence(rng, words) for _ in range(rng.randint(1, 5))) for _ in range(size)]
        documents.append(document(f"d{n}", *texts, tenant=tenant))
    return documents


@asynccontextmanager
async def open_index(folder: Path, encoder: Encoder | None = None, note: Note = unnoted) -> AsyncIterator[Search]:
    """The embedded index in a folder."""
    edge = Edge(folder / "edge")
    async with opened(encoder or FakeEncoder(), Statistics(folder / "statistics.sqlite"), edge, edge, note) as search:
        yield search


async def ask(
    search: Search,
    question: str,
    *,
    tenant: str = "acme",
    top: int = 30,
    filters: Mapping[str, str | list[str]] | None = None,
) -> list[Passage]:
    return await search.finder.find(tenant, question, filters or {}, top)
