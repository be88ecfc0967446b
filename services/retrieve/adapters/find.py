"""Finding: engines name candidates, statistics score them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.item import Evidence, Passage
from services.retrieve.adapters.view import View
from services.retrieve.domain import scoring
from services.retrieve.domain.courtesy import Courtesy
from services.retrieve.domain.ports import Level, Scope, Vectors, WeightedQuery, Words, facet
from services.retrieve.domain.scoring import Array, Collection, Index, QueryTerms
from services.retrieve.domain.terms import terms
from shared.encoder import Encoder, QueryVectors

BEST_DOCUMENTS = 30
"""So many documents by words and by vectors are looked at …"""
CHOSEN_DOCUMENTS = 3
"""… and all passages of so many of them become candidates, …"""
MOST_PASSAGES = 500
"""… unless they have more than so many: then only what a search within them finds."""

T = TypeVar("T")
Viewing = Callable[[str], AbstractContextManager[View]]


@dataclass(frozen=True)
class _Asked:
    """A question, encoded and weighed against what the tenant has."""

    vectors: QueryVectors
    terms: QueryTerms
    collection: Collection
    by_passage: WeightedQuery
    by_document: WeightedQuery


class Finder:
    """Finds passages for questions; any number at a time."""

    def __init__(self, encoder: Encoder, view: Viewing, vectors: Vectors, words: Words, courtesy: Courtesy) -> None:
        self._encoder = encoder
        self._view = view
        self._vectors = vectors
        self._words = words
        self._courtesy = courtesy
        self._threads = ThreadPoolExecutor(2, "find")

    async def find(self, tenant: str, question: str, filters: Mapping[str, str | list[str]], top: int) -> list[Passage]:
        """The tenant's best passages, best first, with their evidence; none where nothing passes the filters."""
        with self._courtesy.asking():
            scope = scope_of(filters)
            if scope is None:
                return []
            asked = await self._run(self._ask, tenant, question)
            if not asked.collection.passages:
                return []
            named = await self._search(tenant, asked, scope, Level.PASSAGE)
            more = await self._in_best_documents(tenant, asked, scope)
            return await self._run(self._rank, tenant, asked, [*named, *more], len(set(named)), top)

    async def close(self) -> None:
        self._threads.shutdown()

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _search(self, tenant: str, asked: _Asked, scope: Scope, level: Level) -> list[int]:
        """Points by words and by vectors, without repetitions."""
        query = asked.by_passage if level is Level.PASSAGE else asked.by_document
        limit = scoring.TOP if level is Level.PASSAGE else BEST_DOCUMENTS
        by_words, by_vectors = await asyncio.gather(
            self._words.matching(tenant, query, scope, level, limit),
            self._vectors.nearest(tenant, asked.vectors.vector, scope, level, limit),
        )
        return list(dict.fromkeys([*by_words, *by_vectors]))

    async def _in_best_documents(self, tenant: str, asked: _Asked, scope: Scope) -> list[int]:
        """The best passages of the best documents: those that a flat search may miss."""
        points = await self._search(tenant, asked, scope, Level.DOCUMENT)
        if not points:
            return []
        small, large = await self._run(self._choose, tenant, asked, points)
        if not large:
            return small
        within = replace(scope, documents=tuple(large))
        return [*small, *await self._search(tenant, asked, within, Level.PASSAGE)]

    def _ask(self, tenant: str, question: str) -> _Asked:
        times = Counter(terms(question))
        with self._view(tenant) as view:
            collection, found = view.collection(), view.query(times)
        rare_passages = scoring.inverse_frequency(found.passages, collection.passages) * found.times
        rare_documents = scoring.inverse_frequency(found.documents, collection.documents) * found.times
        return _Asked(
            self._encoder.encode_query(question),
            found,
            collection,
            WeightedQuery(question, found.ids, rare_passages.astype(np.float32)),
            WeightedQuery(question, found.ids, rare_documents.astype(np.float32)),
        )

    def _choose(self, tenant: str, asked: _Asked, points: Sequence[int]) -> tuple[list[int], list[str]]:
        """Of the best documents among these: the passages' points, and the ids of those that have too many."""
        with self._view(tenant) as view:
            ids, documents = view.whole_documents(points, asked.terms.ids)
            by_words = scoring.words_of_documents(documents, asked.terms, asked.collection)
            by_vectors = (documents.centroids @ asked.vectors.vector).astype(np.float64)
            order = scoring.best(scoring.standard(by_words) + scoring.standard(by_vectors), CHOSEN_DOCUMENTS)
            room = np.cumsum(documents.sizes[order]) <= MOST_PASSAGES
            small = view.points_of([ids[row] for row in order[room]])
        return small, [ids[row] for row in order[~room]]

    def _rank(self, tenant: str, asked: _Asked, points: Sequence[int], named: int, top: int) -> list[Passage]:
        """Score all candidates and return the best; the first `named` points came from the flat searches."""
        query = asked.vectors
        with self._view(tenant) as view:
            pool = view.candidates(list(dict.fromkeys(points)), asked.terms.ids)
            cosines = (pool.vectors @ query.vector).astype(np.float64)
            by_words = scoring.standard(scoring.words(pool, asked.terms, asked.collection), scoring.TOP)
            by_vectors = scoring.standard(scoring.vectors(pool, cosines, query.vector), scoring.TOP)
            scores = by_words + by_vectors
            kept = _kept(scores, np.isin(pool.points, points[:named]))
            if not len(kept):
                return []
            segment, tokens = _by_segments(view, pool.points[kept].tolist(), query)
            evidence = (by_words[kept], by_vectors[kept], segment, tokens)
            order = scoring.best(scores[kept], top)
            passages = view.passages(pool.points[kept][order].tolist())
        table = np.stack([*evidence, cosines[kept]])[:, order].T
        return [
            msgspec.structs.replace(passage, score=float(score), evidence=Evidence(*row))
            for passage, score, row in zip(passages, scores[kept][order], table.tolist(), strict=True)
        ]


def _by_segments(view: View, points: Sequence[int], query: QueryVectors) -> tuple[Array, Array]:
    """z(m1) and z(m2) of these passages."""
    segment, tokens = scoring.segments(*view.segments(points), query)
    return scoring.standard(segment), scoring.standard(tokens)


def _kept(scores: Array, named: NDArray[np.bool_]) -> Index:
    """Rows of the candidates: named by a flat search, or among the hundred best of all."""
    kept = named.copy()
    kept[scoring.best(scores, scoring.TOP)] = True
    return np.flatnonzero(kept)


def scope_of(filters: Mapping[str, str | list[str]]) -> Scope | None:
    """Filters as engines take them: `document` names documents by id, any other key metadata. None: a key has no value
    to choose from, so nothing can pass."""
    if [] in filters.values():
        return None
    groups = {key: (values,) if isinstance(values, str) else tuple(values) for key, values in filters.items()}
    documents = groups.pop("document", ())
    return Scope(documents, tuple(tuple(facet(key, value) for value in values) for key, values in groups.items()))
