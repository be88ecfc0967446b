"""What retrieve gives is what the formulas of docs/retrieval.md give, worked out passage by passage."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from libraries import ask, document, library, open_index, sentence
from numpy.typing import NDArray

from contracts.documents import Document
from contracts.item import Passage
from services.retrieve.domain.segments import segments
from services.retrieve.domain.terms import terms

Scores = NDArray[np.float64]


@dataclass
class Exact:
    """The formulas over all passages of a library, with loops and dictionaries."""

    documents: Sequence[Document]

    def __post_init__(self) -> None:
        self.encoder = FakeEncoder()
        self.passages = [(d, chunk) for d, doc in enumerate(self.documents) for chunk in doc.chunks]
        self.ids = [chunk.id for _, chunk in self.passages]
        self.terms = [Counter(terms(f"{self.documents[d].title} {chunk.text}")) for d, chunk in self.passages]
        self.whole = [
            sum((self.terms[n] for n in self.of(d)), start=Counter[int]()) for d in range(len(self.documents))
        ]
        encoded = self.encoder.encode_passages([segments(chunk.text) for _, chunk in self.passages])
        self.vectors = np.stack([one.vector for one in encoded])
        self.segments = [one.segments for one in encoded]

    def of(self, document: int) -> list[int]:
        return [n for n, (d, _) in enumerate(self.passages) if d == document]

    def words(self, question: str) -> Scores:
        asked = Counter(terms(question))
        lengths = _relative([part.total() for part in self.terms])
        whole_lengths = _relative([part.total() for part in self.whole])
        scores = np.zeros(len(self.passages))
        for term, times in asked.items():
            df = sum(term in part for part in self.whole)
            rare = math.log(1 + (len(self.whole) - df + 0.5) / (df + 0.5))
            spread = Counter(d for n, (d, _) in enumerate(self.passages) if term in self.terms[n])
            for n, (d, _) in enumerate(self.passages):
                size, having = len(self.documents[d].chunks), spread[d]
                apart = math.log(1 + (size - having + 0.5) / (having + 0.5)) - math.log(4 / 3) if size > 1 else 0.0
                scores[n] += times * (
                    apart * _saturated(self.terms[n][term], lengths[n])
                    + rare * _saturated(self.whole[d][term], whole_lengths[d])
                )
        return scores

    def likeness(self, question: str) -> Scores:
        query = self.encoder.encode_query(question).vector
        scores = np.zeros(len(self.passages))
        sums = [self.vectors[self.of(d)].sum(axis=0) for d in range(len(self.documents))]
        for n, (d, _) in enumerate(self.passages):
            centroid = sums[d] / np.linalg.norm(sums[d])
            scores[n] = query @ self.vectors[n] + 0.5 * (query @ centroid) * (1 - self.vectors[n] @ centroid)
        return scores

    def pieces(self, question: str) -> tuple[Scores, Scores]:
        query = self.encoder.encode_query(question)
        best = [(own @ query.vector).max() for own in self.segments]
        tokens = [np.mean([(own @ token).max() for token in query.tokens]) for own in self.segments]
        return np.array(best, dtype=np.float64), np.array(tokens, dtype=np.float64)


def _relative(lengths: Sequence[int]) -> list[float]:
    return [length * len(lengths) / sum(lengths) for length in lengths]


def _saturated(count: int, length: float) -> float:
    return count / (count + 1.5 * (0.25 + 0.75 * length))


def z(values: Scores) -> Scores:
    return np.asarray((values - values.mean()) / values.std())


@pytest.fixture
def questions() -> list[str]:
    rng = random.Random(5)
    return [sentence(rng) for _ in range(8)] + ["barat barat fimik", "Title of d3 kusov"]


@pytest.mark.parametrize("sizes", [[1] * 40, [20, 30, 40], [1, 1, 1, 25, 2, 30, 1]])
async def test_scores_and_evidence_are_those_of_the_formulas(
    tmp_path: Path, sizes: list[int], questions: list[str]
) -> None:
    """All passages are candidates here (below a hundred), so nothing is left to how candidates are found."""
    documents = library(3, sizes)
    exact = Exact(documents)
    async with open_index(tmp_path) as search:
        await search.indexer.put_all("acme", documents)
        for question in questions:
            found = await ask(search, question, top=1000)
            row = {name: n for n, name in enumerate(exact.ids)}
            rows = [row[passage.chunk] for passage in found]
            assert sorted(rows) == list(range(len(exact.ids)))
            by_words, by_vectors = z(exact.words(question)), z(exact.likeness(question))
            segment, tokens = (z(scores) for scores in exact.pieces(question))
            evidence = np.array([(e.words, e.vectors, e.segment, e.tokens) for e in (p.evidence for p in found)])
            expected = np.stack([by_words, by_vectors, segment, tokens], axis=1)[rows]
            assert np.abs(evidence - expected).max() < 0.05  # float16 and int8
            assert [p.score for p in found] == pytest.approx((evidence[:, 0] + evidence[:, 1]).tolist())
            assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)


async def test_the_cosine_is_plain(tmp_path: Path) -> None:
    async with open_index(tmp_path) as search:
        await search.indexer.put("acme", document("d", "barat delon fimik.", "gosov kutup."))
        question = search.encoder.encode_query("barat delon")
        (first, second) = await ask(search, "barat delon")
        for passage in (first, second):
            own = search.encoder.encode_passages([segments(passage.text)])[0].vector
            assert passage.evidence.cosine == pytest.approx(float(own @ question.vector), abs=0.002)


async def test_in_a_large_library_the_best_are_those_of_an_exact_search(tmp_path: Path, questions: list[str]) -> None:
    """700 passages: candidates come from the engine. The exact order by z(B) + z(S) has the same top."""
    documents = library(11, [60, 90, 1, 1, 120, 80, 1, 150, 100, 97])
    exact = Exact(documents)
    shared = []
    async with open_index(tmp_path) as search:
        await search.indexer.put_all("acme", documents)
        for question in questions:
            found = [passage.chunk for passage in await ask(search, question, top=10)]
            scores = _top_z(exact.words(question)) + _top_z(exact.likeness(question))
            best = [exact.ids[n] for n in np.argsort(-scores)[:10]]
            shared.append(len(set(found) & set(best)))
    assert np.mean(shared) > 8.5, shared


def _top_z(values: Scores) -> Scores:
    top = np.sort(values)[-100:]
    return np.asarray((values - top.mean()) / top.std())


async def test_indexed_piece_by_piece_scores_like_indexed_at_once(tmp_path: Path, questions: list[str]) -> None:
    """Statistics are kept up to date: changed, removed and returning documents leave no trace."""
    final, other = library(3, [4, 1, 9, 2]), library(4, [7, 3, 1, 5, 6])
    async with open_index(tmp_path / "changed") as search:
        for doc in [*other, *final[:2]]:
            await search.indexer.put("acme", doc)
        await search.indexer.put_all("acme", [_revised(doc, "2") for doc in final])
        await search.indexer.put("acme", _revised(document("d4"), "3"))
        changed = [_scores(await ask(search, question)) for question in questions]
    async with open_index(tmp_path / "fresh") as search:
        await search.indexer.put_all("acme", final)
        fresh = [_scores(await ask(search, question)) for question in questions]
    assert changed == fresh


def _scores(passages: Sequence[Passage]) -> dict[str, tuple[float, ...]]:
    return {p.chunk: (round(p.evidence.words, 6), round(p.evidence.vectors, 6)) for p in passages}


def _revised(doc: Document, revision: str) -> Document:
    return Document(doc.id, doc.tenant, doc.title, doc.source, revision, doc.chunks)
