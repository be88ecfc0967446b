"""Query latency over a large index: `make bench-retrieval`.

Builds N chunks (100,000) in documents of 50 through the real indexing code. Words are as frequent as in natural text
(Zipf and Mandelbrot's law, the sample library's words first), and each document has favourites of its own.
Passages' vectors are drawn around their document's, not encoded: that would take an hour.
Questions are the samples', encoded for real. The last line is JSON.
"""

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
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
OWN_WORDS = 20
VOCABULARY = 60_000
TOPICS = 400
QUESTIONS = 200

screen = Console(stderr=True)


class DrawnEncoder(Encoder):
    """Encodes questions for real, and draws passages' unit vectors: about .65 is a passage's mean cosine with its
    document's centroid, as on CUAD's contracts, and documents gather around some topics."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._topics = self._units(TOPICS)
        self._drawn = 0

    def encode_passages(self, passages: Sequence[Sequence[str]], batch: int = BATCH) -> list[PassageVectors]:
        return [self._draw(len(pieces)) for pieces in passages]

    def _draw(self, pieces: int) -> PassageVectors:
        if self._drawn % PER_DOCUMENT == 0:
            topic = self._topics[self._random.integers(TOPICS)]
            self._document = _unit(topic + self._units(1)[0])
        self._drawn += 1
        near = _unit(self._document + 1.2 * self._units(1)[0])
        return PassageVectors(near, _unit(near + 0.7 * self._units(pieces)))

    def _units(self, count: int) -> Floats:
        return _unit(self._random.standard_normal((count, DIMENSIONS)).astype(np.float32))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


class Text:
    """Draws words as frequent as in natural text."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        text = " ".join(path.read_text("utf-8") for path in sorted(LIBRARY.glob("*.md")))
        known = [word for word, _ in Counter(re.findall(r"\w+", text.lower())).most_common()]
        self._words = np.array([*known, *(f"term{n}" for n in range(VOCABULARY - len(known)))])
        weights = 1 / (np.arange(VOCABULARY) + 2.7) ** 1.07  # Mandelbrot's constants for English
        self._shares = np.cumsum(weights / weights.sum())

    def documents(self, chunks: int) -> Iterator[Document]:
        for number in range(-(-chunks // PER_DOCUMENT)):
            own = self._words[self._random.integers(100, VOCABULARY, 60)]
            yield Document(
                id=f"document-{number}", tenant=TENANT, title=f"Document {number}", source="made up", revision="1",
                chunks=[self._chunk(number, ordinal, own) for ordinal in range(PER_DOCUMENT)],
            )  # fmt: skip

    def _chunk(self, document: int, ordinal: int, own: NDArray[np.str_]) -> Chunk:
        common = self._words[np.searchsorted(self._shares, self._random.random(WORDS - OWN_WORDS))]
        words = self._random.permutation(np.concatenate([common, self._random.choice(own, OWN_WORDS)]))
        text = " ".join(f"{' '.join(sentence)}." for sentence in np.split(words, WORDS // 20))
        return Chunk(id=f"document-{document}#{ordinal}", ordinal=ordinal, text=text, tokens=160)


async def bench(chunks: int, seed: int, folder: Path) -> dict[str, float]:
    """Milliseconds of one question at a time: encoder, both levels, segments, rerank."""
    edge = Edge(folder / "edge")
    async with opened(DrawnEncoder(seed), Statistics(folder / "statistics.sqlite"), edge, edge) as search:
        began = time.perf_counter()
        for document in track(
            Text(seed).documents(chunks), "indexing", total=-(-chunks // PER_DOCUMENT), console=screen, transient=True
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
