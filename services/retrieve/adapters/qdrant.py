"""A Qdrant server: one collection for vectors and words of all tenants.

It is `<name>-<generation>` behind the alias `<name>`.
The client takes more than a second to import, so import this module only where a Qdrant is used.
"""

import asyncio
import re
import warnings
from collections.abc import Sequence
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.models import (
    AliasOperations,
    Condition,
    CreateAlias,
    CreateAliasOperation,
    DeleteAlias,
    DeleteAliasOperation,
    FieldCondition,
    Filter,
    FilterSelector,
    HasIdCondition,
    MatchAny,
    MatchValue,
    PointStruct,
    SparseVector,
)

from services.retrieve.adapters.address import address
from services.retrieve.adapters.qdrant_faults import Faults
from services.retrieve.adapters.qdrant_shape import DENSE, SPARSE, Storage, collection, is_ours, payload_indexes
from services.retrieve.domain.ports import Entry, Level, Point, Scope, WeightedQuery
from shared.encoder import Floats
from shared.settings import SettingsError
from shared.tls import NO_TLS, Tls

AT_ONCE = 128
"""Points in one request, about a megabyte."""
TIMEOUT_S = 30.0
_TRIES, _LONGEST_PAUSE_S = 6, 8.0  # of a write while the server has too much to do


class Qdrant:
    """Serves the Protocols Vectors, Words and Successor. Every method raises Retryable where the server does not
    answer, is too busy or turns the key down, and Poison where it refuses a request for good.

    `url` may be `:memory:`: the client's own engine, for tests.
    """

    def __init__(
        self,
        url: str,
        key: str,
        name: str,
        storage: Storage | None = None,
        timeout_s: float = TIMEOUT_S,
        *,
        tls: Tls = NO_TLS,
    ) -> None:
        self._name = name
        self._collection = name  # what this engine reads and writes: `<name>-<generation>` until it serves
        self._storage = storage or Storage()
        self._faults = Faults(address(url), name, timeout_s)
        verify: dict[str, Any] = {"verify": tls.context()} if url.startswith("https:") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a key over http is the operator's choice
            self._client = AsyncQdrantClient(
                location=url, api_key=key or None, timeout=max(1, round(timeout_s)), check_compatibility=False, **verify
            )

    async def open(self) -> bool:
        """Create the collection where there is none. Raises SettingsError where it has another shape, or the server is
        too old."""
        with self._faults.named():
            self._faults.check((await self._client.info()).version)
            serving = await self._serving()
            if serving is None:
                await self._create(f"{self._name}-1")
                await self._name_it(f"{self._name}-1", instead_of=None)
                return True
            if not is_ours((await self._client.get_collection(serving)).config.params):
                raise SettingsError(
                    f"PENSTOCK_RETRIEVE_INDEX_NAME: expected a collection of Penstock or none yet, but {self._name!r}"
                    f" at {self._faults.address} has other vectors"
                )
            return False

    async def begin(self) -> None:
        """Work on a new generation, empty and beside the one that serves. What an earlier attempt left is deleted."""
        with self._faults.named():
            self._faults.check((await self._client.info()).version)
            serving, generations = await self._serving(), await self._generations()
            for left in generations.keys() - {serving}:
                await self._client.delete_collection(left)
            self._collection = f"{self._name}-{max(generations.values(), default=0) + 1}"
            await self._create(self._collection)

    async def replace(self, tenant: str, *entries: Entry) -> None:
        """Points with an id of before are overwritten, then the others of before go: no moment without a document."""
        with self._faults.named():
            await self._write(tenant, entries)
            for entry in entries:
                await self._delete(tenant, entry.document, keep=[point.id for point in entry.points])

    async def fill(self, tenant: str, entries: Sequence[Entry]) -> None:
        with self._faults.named():
            await self._write(tenant, entries)

    async def remove(self, tenant: str, document: str) -> None:
        with self._faults.named():
            await self._delete(tenant, document, keep=[])

    async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
        return await self._search(vector.tolist(), DENSE, _filter(tenant, scope, level), limit)

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        if not len(query.terms):
            return []
        sparse = SparseVector(indices=query.terms.tolist(), values=query.weights.tolist())
        return await self._search(sparse, SPARSE, _filter(tenant, scope, level), limit)

    async def serve(self) -> None:
        """In one action the new generation takes the name; then the earlier one is deleted."""
        with self._faults.named():
            earlier = await self._serving()
            if earlier == self._name:  # a collection that has the name itself, from before there were aliases
                await self._client.delete_collection(earlier)
                earlier = None
            await self._name_it(self._collection, instead_of=earlier)
            self._collection = self._name
            if earlier is not None:
                await self._client.delete_collection(earlier)

    async def discard(self) -> None:
        """Delete what this engine works on, for good."""
        with self._faults.named():
            behind = await self._serving() if self._collection == self._name else self._collection
            if behind is not None:
                await self._client.delete_collection(behind)  # and the alias with it

    async def close(self) -> None:
        await self._client.close()

    async def _create(self, name: str) -> None:
        await self._client.create_collection(name, **collection(self._storage))
        for field, keyword in payload_indexes(self._storage).items():
            await self._client.create_payload_index(name, field, keyword, wait=True)

    async def _name_it(self, name: str, instead_of: str | None) -> None:
        made = CreateAliasOperation(create_alias=CreateAlias(collection_name=name, alias_name=self._name))
        freed = DeleteAliasOperation(delete_alias=DeleteAlias(alias_name=self._name))
        operations: list[AliasOperations] = [made] if instead_of is None else [freed, made]
        await self._client.update_collection_aliases(operations)

    async def _serving(self) -> str | None:
        """The collection that has the name, by alias or itself."""
        for alias in (await self._client.get_aliases()).aliases:
            if alias.alias_name == self._name:
                return alias.collection_name
        return self._name if await self._client.collection_exists(self._name) else None

    async def _generations(self) -> dict[str, int]:
        """The generation of each collection of ours."""
        ours = re.compile(rf"{re.escape(self._name)}-(\d+)")
        names = [each.name for each in (await self._client.get_collections()).collections]
        return {name: int(match[1]) for name in names if (match := ours.fullmatch(name))}

    async def _write(self, tenant: str, entries: Sequence[Entry]) -> None:
        points = [_point(tenant, entry, point) for entry in entries for point in entry.points]
        for start in range(0, len(points), AT_ONCE):
            await self._upsert(points[start : start + AT_ONCE])

    async def _upsert(self, points: list[PointStruct]) -> None:
        """Write points; where the server has too much to do, again after the pause that it asks for."""
        for pause in [2.0**attempt for attempt in range(_TRIES)]:
            try:
                await self._client.upsert(self._collection, points, wait=True)
                return
            except ResourceExhaustedResponse as error:
                await asyncio.sleep(min(error.retry_after_s or pause, _LONGEST_PAUSE_S))
        await self._client.upsert(self._collection, points, wait=True)

    async def _delete(self, tenant: str, document: str, keep: Sequence[int]) -> None:
        stale = Filter(
            must=[*_tenant(tenant), FieldCondition(key="document", match=MatchValue(value=document))],
            must_not=[HasIdCondition(has_id=list(keep))] if keep else None,
        )
        await self._client.delete(self._collection, FilterSelector(filter=stale), wait=True)

    async def _search(self, query: list[float] | SparseVector, using: str, within: Filter, limit: int) -> list[int]:
        with self._faults.named():
            found = await self._client.query_points(
                self._collection, query=query, using=using, query_filter=within, limit=limit, with_payload=False
            )
        return [int(point.id) for point in found.points]


def _point(tenant: str, entry: Entry, point: Point) -> PointStruct:
    return PointStruct(
        id=point.id,
        vector={
            DENSE: point.vector.tolist(),
            SPARSE: SparseVector(indices=point.terms.tolist(), values=point.weights.tolist()),
        },
        payload={
            "tenant": tenant,
            "level": point.level.value,
            "document": entry.document,
            "facets": list(entry.facets),
        },
    )


def _tenant(tenant: str) -> list[Condition]:
    return [FieldCondition(key="tenant", match=MatchValue(value=tenant))]


def _filter(tenant: str, scope: Scope, level: Level) -> Filter:
    conditions = [*_tenant(tenant), FieldCondition(key="level", match=MatchValue(value=level.value))]
    if scope.documents:
        conditions.append(_any("document", scope.documents))
    conditions += [_any("facets", values) for values in scope.facets]
    return Filter(must=conditions)


def _any(key: str, values: Sequence[str]) -> FieldCondition:
    return FieldCondition(key=key, match=MatchAny(any=list(values)))
