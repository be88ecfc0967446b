"""Finding: engines name candidates, statistics score them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
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
_LIMITS: Mapping[Level, int] = {Level.PASSAGE: scoring.TOP, Level.DOCUMENT: BEST_DOCUMENTS}

T = TypeVar("T")
Viewing = Callable[[str], AbstractContextManager[View]]


@dataclass(frozen=True)
class _Weighed:
    """A question's terms, weighed against what the tenant has."""

    terms: QueryTerms
    collection: Collection
    queries: Mapping[Level, WeightedQuery]


@dataclass(frozen=True)
class _Asked:
    """A weighed question, encoded, with what its words have found."""

    weighed: _Weighed
    vectors: QueryVectors
    by_words: Mapping[Level, Sequence[int]]


class Finder:
    """Finds passages for questions; any number at a time."""

    def __init__(
        self, encoder: Encoder, view: Viewing, vectors: Vectors, words: Words, courtesy: Courtesy,
        encode: Callable[[str, str], QueryVectors] | None = None,
    ) -> None:  # fmt: skip
        """`encode`: tenant and question to vectors, where it is not the encoder itself that is asked."""
        self._encode = encode or (lambda _, question: encoder.encode_query(question))
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
            weighed = self._weigh(tenant, question)
            if not weighed.collection.passages:
                return []
            asked = await self._ask(tenant, question, weighed, scope)
            named = _merged(
                asked.by_words[Level.PASSAGE], await self._nearest(tenant, asked.vectors, scope, Level.PASSAGE)
            )
            more = await self._in_best_documents(tenant, asked, scope)
            return self._rank(tenant, asked, [*named, *more], len(named), top)

    async def close(self) -> None:
        self._threads.shutdown()

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _ask(self, tenant: str, question: str, weighed: _Weighed, scope: Scope) -> _Asked:
        """Search by words while a thread encodes the question."""
        vectors, passages, documents = await asyncio.gather(
            self._run(self._encode, tenant, question),
            self._matching(tenant, weighed, scope, Level.PASSAGE),
            self._matching(tenant, weighed, scope, Level.DOCUMENT),
        )
        return _Asked(weighed, vectors, {Level.PASSAGE: passages, Level.DOCUMENT: documents})

    async def _matching(self, tenant: str, weighed: _Weighed, scope: Scope, level: Level) -> list[int]:
        return await self._words.matching(tenant, weighed.queries[level], scope, level, _LIMITS[level])

    async def _nearest(self, tenant: str, query: QueryVectors, scope: Scope, level: Level) -> list[int]:
        return await self._vectors.nearest(tenant, query.vector, scope, level, _LIMITS[level])

    async def _in_best_documents(self, tenant: str, asked: _Asked, scope: Scope) -> list[int]:
        """The best passages of the best documents: those that a flat search may miss."""
        by_vectors = await self._nearest(tenant, asked.vectors, scope, Level.DOCUMENT)
        points = _merged(asked.by_words[Level.DOCUMENT], by_vectors)
        if not points:
            return []
        small, large = self._choose(tenant, asked, points)
        if not large:
            return small
        within = replace(scope, documents=tuple(large))
        found = await asyncio.gather(
            self._matching(tenant, asked.weighed, within, Level.PASSAGE),
            self._nearest(tenant, asked.vectors, within, Level.PASSAGE),
        )
        return _merged(small, *found)

    def _weigh(self, tenant: str, question: str) -> _Weighed:
        times = Counter(terms(question))
        with self._view(tenant) as view:
            collection, found = view.collection(), view.query(times)
        rare_passages = scoring.inverse_frequency(found.passages, collection.passages) * found.times
        rare_documents = scoring.inverse_frequency(found.documents, collection.documents) * found.times
        return _Weighed(
            found,
            collection,
            {
                Level.PASSAGE: WeightedQuery(question, found.ids, rare_passages.astype(np.float32)),
                Level.DOCUMENT: WeightedQuery(question, found.ids, rare_documents.astype(np.float32)),
            },
        )

    def _choose(self, tenant: str, asked: _Asked, points: Sequence[int]) -> tuple[list[int], list[str]]:
        """Of the best documents among these: the passages' points, and the ids of those that have too many."""
        with self._view(tenant) as view:
            weighed = asked.weighed
            ids, documents = view.whole_documents(points, weighed.terms.ids)
            by_words = scoring.words_of_documents(documents, weighed.terms, weighed.collection)
            by_vectors = (documents.centroids @ asked.vectors.vector).astype(np.float64)
            order = scoring.best(scoring.standard(by_words) + scoring.standard(by_vectors), CHOSEN_DOCUMENTS)
            room = np.cumsum(documents.sizes[order]) <= MOST_PASSAGES
            small = view.points_of([ids[row] for row in order[room]])
        return small, [ids[row] for row in order[~room]]

    def _rank(self, tenant: str, asked: _Asked, points: Sequence[int], named: int, top: int) -> list[Passage]:
        """Score all candidates and return the best; the first `named` points came from the flat searches."""
        query, weighed = asked.vectors, asked.weighed
        with self._view(tenant) as view:
            pool = view.candidates(_merged(points), weighed.terms.ids)
            cosines = (pool.vectors @ query.vector).astype(np.float64)
            by_words = scoring.standard(scoring.words(pool, weighed.terms, weighed.collection), scoring.TOP)
            by_vectors = scoring.standard(scoring.vectors(pool, cosines, query.vector), scoring.TOP)
            scores = by_words + by_vectors
            flat = set(points[:named])
            kept = _kept(scores, np.array([point in flat for point in pool.points.tolist()], dtype=np.bool_))
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


def _merged(*points: Sequence[int]) -> list[int]:
    """One list after the other, without repetitions."""
    return list(dict.fromkeys(chain(*points)))


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
