"""Query latency over a large index: `make bench-retrieval`.

Builds N chunks (100,000) in documents of 50 from the words of the sample library, through the real indexing code;
only the passages' vectors are drawn at random around a few hundred topics not encoded: that would take an hour.
Queries are encoded for real. The last line is JSON.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from client.eval.metrics import percentile
from contracts.documents import Chunk, Document
from contracts.item import Input, Item
from contracts.steps import Rerank, Retrieve
from services.rerank.domain import EvidenceScorer
from services.rerank.handlers import rerank
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.handlers import retrieve
from shared.encoder import BATCH, DIMENSIONS, Encoder, Floats, PassageVectors

LIBRARY = Path(__file__).parents[1] / "samples" / "library"
TENANT = "bench"
PER_DOCUMENT = 50
WORDS = 120  # a chunk has about 160 tokens
TOPICS = 400
QUESTIONS = 200

screen = Console(stderr=True)


class DrawnEncoder(Encoder):
    """Encodes questions for real, and gives passages unit vectors near one of some topics."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._topics = self._units(TOPICS)

    def encode_passages(self, passages: Sequence[Sequence[str]], batch: int = BATCH) -> list[PassageVectors]:
        vectors = self._topics[self._random.integers(0, TOPICS, len(passages))] + 0.7 * self._units(len(passages))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [
            PassageVectors(vector, np.repeat(vector[None], len(pieces), axis=0))
            for vector, pieces in zip(vectors, passages, strict=True)
        ]

    def _units(self, count: int) -> Floats:
        drawn = self._random.standard_normal((count, DIMENSIONS)).astype(np.float32)
        unit: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit


def documents(chunks: int, seed: int) -> Iterator[Document]:
    """Documents of 50 chunks, of words as frequent as in the sample library and of made-up rare ones (Zipf's law)."""
    chance = random.Random(seed)
    common = [word for path in sorted(LIBRARY.glob("*.md")) for word in path.read_text("utf-8").split()]
    for number in range(-(-chunks // PER_DOCUMENT)):
        own = [f"term{int(chance.paretovariate(0.6)) % 50_000}" for _ in range(60)]
        yield Document(
            id=f"document-{number}", tenant=TENANT, title=f"Document {number}", source="made up", revision="1",
            chunks=[_chunk(number, k, chance, common, own) for k in range(PER_DOCUMENT)],
        )  # fmt: skip


def _chunk(document: int, ordinal: int, chance: random.Random, common: list[str], own: list[str]) -> Chunk:
    words = chance.choices(common, k=WORDS - 12) + chance.choices(own, k=12)
    chance.shuffle(words)
    ends = range(20, WORDS, 20)
    text = " ".join(f"{word}." if place in ends else word for place, word in enumerate(words))
    return Chunk(id=f"document-{document}#{ordinal}", ordinal=ordinal, text=text, tokens=160)


async def bench(chunks: int, seed: int, folder: Path) -> dict[str, float]:
    """Milliseconds of one question at a time: encoder, both levels, segments, rerank."""
    edge = Edge(folder / "edge")
    async with opened(DrawnEncoder(seed), Statistics(folder / "statistics.sqlite"), edge, edge) as search:
        began = time.perf_counter()
        for document in track(
            documents(chunks, seed), "indexing", total=-(-chunks // PER_DOCUMENT), console=screen, transient=True
        ):
            await search.indexer.put(TENANT, document)
        indexing = time.perf_counter() - began
        questions = _questions(seed)
        for question in questions[:20]:
            await _ask(search, question)
        seconds = [await _ask(search, question) for question in questions]
    return {
        "chunks": chunks,
        "indexed_per_s": round(chunks / indexing, 1),
        "query_p50_ms": round(percentile(seconds, 0.5) * 1000, 2),
        "query_p95_ms": round(percentile(seconds, 0.95) * 1000, 2),
    }


def _questions(seed: int) -> list[str]:
    lines = (LIBRARY.parent / "questions.jsonl").read_text("utf-8").splitlines()
    found = [given["question"] for given in map(json.loads, lines) if isinstance(given, dict) and "question" in given]
    usable = [question for question in found if isinstance(question, str) and question.strip()]
    return random.Random(seed).choices(usable, k=QUESTIONS)


async def _ask(search: Search, question: str) -> float:
    item = Item(n=0, input=Input(question=question))
    began = time.perf_counter()
    found = await retrieve([item], Retrieve(), search.finder, tenant=TENANT)
    await rerank(found, Rerank(), EvidenceScorer())
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        numbers = asyncio.run(bench(given.chunks, given.seed, Path(folder)))
    screen.print(f"{numbers['chunks']:,} chunks: p50 {numbers['query_p50_ms']} ms, p95 {numbers['query_p95_ms']} ms")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
