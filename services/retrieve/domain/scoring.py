"""The scores on two levels, as plain functions of arrays. The formulas: docs/retrieval.md.

Shapes: `n` candidate passages of `m` documents, `t` distinct terms of the query.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.encoder import Floats, QueryVectors

Array = NDArray[np.float64]
Index = NDArray[np.intp]

K = 1.5
B = 0.75
TOP = 100
"""A list is normalised by the mean and the deviation of its best hundred."""
_ALMOST_NOTHING = 1e-9


@dataclass(frozen=True)
class QueryTerms:
    """The distinct terms of a query, how often each occurs in it, and in how many of the tenant's documents and
    passages; all of shape (t,)."""

    ids: NDArray[np.uint32]
    times: Array
    documents: Array
    passages: Array


@dataclass(frozen=True)
class Collection:
    """How much a tenant has: documents, passages, and words in all of them."""

    documents: int
    passages: int
    words: int


@dataclass(frozen=True)
class Documents:
    """The documents that candidates belong to."""

    sizes: Array  # (m,) passages in the document
    lengths: Array  # (m,) words
    counts: Array  # (m, t) occurrences of each query term
    spread: Array  # (m, t) in how many of the document's passages it occurs
    centroids: Floats  # (m, 384)


@dataclass(frozen=True)
class Candidates:
    """The candidate passages, in any order."""

    points: NDArray[np.int64]  # (n,)
    owners: Index  # (n,) row of its document
    lengths: Array  # (n,) words
    counts: Array  # (n, t)
    vectors: Floats  # (n, 384)
    towards: Array  # (n,) cosine of passage and centroid
    documents: Documents


def inverse_frequency(having: Array, of: Array | float) -> Array:
    """ln(1 + (N − n + .5) / (n + .5)), as Lucene's BM25 has it."""
    weight: Array = np.log1p((of - having + 0.5) / (having + 0.5))
    return weight


def saturation(counts: Array, lengths: Array, mean_length: float) -> Array:
    """tf / (tf + k (1 − b + b · length / mean length)); counts (r, t), lengths (r,)."""
    room = K * (1 - B + B * lengths / max(mean_length, 1.0))
    saturated: Array = counts / (counts + room[:, None])
    return saturated


def words(found: Candidates, query: QueryTerms, collection: Collection) -> Array:
    """B = Σ_t in(t,d) · satp(t,p) + idf_d(t) · satd(t,d), shape (n,)."""
    documents = found.documents
    in_passage = saturation(found.counts, found.lengths, collection.words / max(collection.passages, 1))
    tells_apart = within(documents)[found.owners]
    passage_part = (tells_apart * in_passage) @ query.times
    return np.asarray(passage_part + words_of_documents(documents, query, collection)[found.owners])


def within(documents: Documents) -> Array:
    """in(t,d): how well a term tells the passages of its document apart; 0 where there is one passage. (m, t)"""
    weight = inverse_frequency(documents.spread, documents.sizes[:, None]) - np.log(4 / 3)
    return np.where(documents.sizes[:, None] > 1, weight, 0.0)


def words_of_documents(documents: Documents, query: QueryTerms, collection: Collection) -> Array:
    """Σ_t idf_d(t) · satd(t,d), shape (m,)."""
    in_document = saturation(documents.counts, documents.lengths, collection.words / max(collection.documents, 1))
    rare = inverse_frequency(query.documents, collection.documents)
    return np.asarray(in_document @ (rare * query.times))


def vectors(found: Candidates, cosines: Array, query: Floats) -> Array:
    """S = q·p + .5 (q·C_d) (1 − p·C_d), shape (n,)."""
    to_documents = (found.documents.centroids @ query).astype(np.float64)
    return np.asarray(cosines + 0.5 * to_documents[found.owners] * (1 - found.towards))


def segments(pieces: NDArray[np.int8], starts: Index, query: QueryVectors) -> tuple[Array, Array]:
    """m1 = max_segment q·v and m2 = mean over the query's tokens of max_segment token·v, both of shape (n,).

    `pieces` are the segment vectors of all candidates one after the other, `starts` where each candidate's begin.
    """
    probes = np.concatenate([query.vector[None, :], query.tokens]).T
    scaled = pieces.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    likeness = (scaled @ probes) / np.maximum(lengths, _ALMOST_NOTHING)[:, None]
    best = np.maximum.reduceat(likeness, starts, axis=0).astype(np.float64)
    return best[:, 0], best[:, 1:].mean(axis=1) if best.shape[1] > 1 else best[:, 0]


def standard(values: Array, top: int | None = None) -> Array:
    """z-scores by the mean and deviation of the list, or of its own `top` best; zeros where all are equal."""
    if not len(values):
        return values
    sample = values if top is None or len(values) <= top else np.partition(values, -top)[-top:]
    mean = sample.sum() / len(sample)
    around = sample - mean
    deviation = math.sqrt(around @ around / len(sample))
    if deviation < _ALMOST_NOTHING:
        return np.zeros_like(values)
    return np.asarray((values - mean) / deviation)


def best(scores: Array, limit: int) -> Index:
    """Rows of the highest scores, best first; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")[:limit]


def to_int8(unit: Floats) -> NDArray[np.int8]:
    """Unit vectors as int8, each by its own largest component; their length is restored when they are read."""
    largest = np.maximum(np.abs(unit).max(axis=-1, keepdims=True), _ALMOST_NOTHING)
    rounded: NDArray[np.int8] = np.rint(unit * (127.0 / largest)).astype(np.int8)
    return rounded
