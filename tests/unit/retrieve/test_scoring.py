"""The formulas of docs/retrieval.md, written out term by term beside their arrays."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from services.retrieve.domain import scoring
from services.retrieve.domain.scoring import Candidates, Collection, Documents, QueryTerms
from shared.encoder import QueryVectors

COLLECTION = Collection(documents=10, passages=40, words=4000)
TERMS = QueryTerms(
    ids=np.array([3, 5], dtype=np.uint32),
    times=np.array([2.0, 1.0]),
    documents=np.array([4.0, 1.0]),
    passages=np.array([9.0, 1.0]),
)


def unit(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, dtype=np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


def candidates() -> Candidates:
    """Two passages of a document of four, and one that is its document."""
    single = unit(0, 1, 1)
    documents = Documents(
        sizes=np.array([4.0, 1.0]),
        lengths=np.array([380.0, 70.0]),
        counts=np.array([[6.0, 0.0], [1.0, 2.0]]),
        spread=np.array([[3.0, 0.0], [1.0, 1.0]]),
        centroids=np.stack([unit(1, 1, 0), single]),
    )
    vectors = np.stack([unit(1, 0, 0), unit(0, 1, 0), single])
    return Candidates(
        points=np.array([1, 2, 3]),
        owners=np.array([0, 0, 1]),
        lengths=np.array([100.0, 90.0, 70.0]),
        counts=np.array([[2.0, 0.0], [0.0, 0.0], [1.0, 2.0]]),
        vectors=vectors,
        towards=np.array([float(vectors[0] @ documents.centroids[0]), float(vectors[1] @ documents.centroids[0]), 1.0]),
        documents=documents,
    )


def saturated(tf: float, length: float, mean: float) -> float:
    return tf / (tf + 1.5 * (0.25 + 0.75 * length / mean))


def words_by_hand(found: Candidates, n: int) -> float:
    d, whole = found.owners[n], found.documents
    score = 0.0
    for t in range(2):
        size, having = whole.sizes[d], whole.spread[d, t]
        apart = math.log(1 + (size - having + 0.5) / (having + 0.5)) - math.log(4 / 3) if size > 1 else 0.0
        df = TERMS.documents[t]
        rare = math.log(1 + (COLLECTION.documents - df + 0.5) / (df + 0.5))
        score += TERMS.times[t] * (
            apart * saturated(found.counts[n, t], found.lengths[n], 4000 / 40)
            + rare * saturated(whole.counts[d, t], whole.lengths[d], 4000 / 10)
        )
    return score


def test_words_on_two_levels() -> None:
    found = candidates()
    scores = scoring.words(found, TERMS, COLLECTION)
    assert scores.tolist() == pytest.approx([words_by_hand(found, n) for n in range(3)])


def test_words_of_a_single_passage_are_bm25_of_its_document() -> None:
    found = candidates()
    assert scoring.words(found, TERMS, COLLECTION)[2] == pytest.approx(
        scoring.words_of_documents(found.documents, TERMS, COLLECTION)[1]
    )


def test_vectors_on_two_levels() -> None:
    found, query = candidates(), unit(1, 2, 3)
    cosines = (found.vectors @ query).astype(np.float64)
    centroid = float(found.documents.centroids[0] @ query)
    expected = [cosines[n] + 0.5 * centroid * (1 - found.towards[n]) for n in (0, 1)]
    assert scoring.vectors(found, cosines, query).tolist() == pytest.approx([*expected, cosines[2]])


def test_segments_take_the_best_for_the_query_and_for_each_token() -> None:
    pieces = np.stack([unit(1, 0, 0), unit(0, 1, 0), unit(1, 1, 1)])
    query = QueryVectors(vector=unit(1, 0.5, 0), tokens=np.stack([unit(1, 0, 0), unit(0, 1, 0)]))
    first, second = slice(0, 2), slice(2, 3)
    segment, tokens = scoring.segments(scoring.to_int8(pieces), np.array([0, 2]), query)
    assert segment.tolist() == pytest.approx([(pieces[s] @ query.vector).max() for s in (first, second)], abs=0.01)
    expected = [np.mean([(pieces[s] @ token).max() for token in query.tokens]) for s in (first, second)]
    assert tokens.tolist() == pytest.approx(expected, abs=0.01)


def test_a_query_without_tokens_is_judged_as_a_whole() -> None:
    query = QueryVectors(vector=unit(1, 0, 0), tokens=np.zeros((0, 3), dtype=np.float32))
    segment, tokens = scoring.segments(scoring.to_int8(np.stack([unit(1, 1, 0)])), np.array([0]), query)
    assert segment.tolist() == tokens.tolist()


def test_eight_bits_keep_the_direction() -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    back = scoring.to_int8(vectors).astype(np.float32)
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    assert (vectors * back).sum(axis=1).min() > 0.999


def test_standard_scores_by_the_whole_list_and_by_its_best() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0])
    whole, best = scoring.standard(values), scoring.standard(values, top=2)
    assert whole.tolist() == pytest.approx(((values - 4) / values.std()).tolist())
    assert best.tolist() == pytest.approx(((values - 6.5) / 3.5).tolist())


@pytest.mark.parametrize("values", [[], [5.0], [2.0, 2.0, 2.0]])
def test_values_that_do_not_differ_score_nothing(values: list[float]) -> None:
    assert scoring.standard(np.array(values)).tolist() == [0.0] * len(values)


def test_best_keeps_the_order_of_equals() -> None:
    assert scoring.best(np.array([1.0, 3.0, 1.0, 3.0]), 3).tolist() == [1, 3, 0]
