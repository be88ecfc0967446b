"""A Qdrant server: one collection for vectors and words of all tenants.

The client takes more than a second to import, so import this module only where a Qdrant is used.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any

from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.models import (
    CollectionParams,
    Condition,
    Distance,
    FieldCondition,
    Filter,
    FilterSelector,
    HasIdCondition,
    HnswConfigDiff,
    KeywordIndexParams,
    KeywordIndexType,
    MatchAny,
    MatchValue,
    PointStruct,
    SparseVector,
    SparseVectorParams,
    VectorParams,
)

from services.retrieve.adapters.address import address
from services.retrieve.domain.ports import Entry, Level, Point, Scope, WeightedQuery
from shared.encoder import DIMENSIONS, Floats
from shared.errors import Poison, Retryable
from shared.settings import SettingsError
from shared.tls import NO_TLS, Tls

DENSE, SPARSE = "dense", "words"
AT_ONCE = 128
"""Points in one request, about a megabyte."""
_TIMEOUT_S = 30
_KEY = "PENSTOCK_RETRIEVE_QDRANT_KEY"
_URL = "PENSTOCK_RETRIEVE_QDRANT_URL"
# A graph for each tenant instead of one for all, as Qdrant advises where every search keeps to one tenant.
_GRAPHS = HnswConfigDiff(m=0, payload_m=16)


class Qdrant:
    """Serves both Protocols, Vectors and Words. Every method raises Retryable where the server does not answer or
    turns the key down, and Poison where it refuses a request for good.

    `url` may be `:memory:`: the client's own engine, for tests.
    """

    def __init__(self, url: str, key: str, collection: str, *, tls: Tls = NO_TLS) -> None:
        self._address = address(url)
        self._collection = collection
        verify: dict[str, Any] = {"verify": tls.context()} if url.startswith("https:") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a key over http is the operator's choice
            self._client = AsyncQdrantClient(
                location=url, api_key=key or None, timeout=_TIMEOUT_S, check_compatibility=False, **verify
            )

    async def open(self) -> bool:
        """Create the collection where there is none. Raises SettingsError where it has another shape."""
        with self._asking():
            if await self._client.collection_exists(self._collection):
                self._check((await self._client.get_collection(self._collection)).config.params)
                return False
            await self._create()
            return True

    async def replace(self, tenant: str, entry: Entry) -> None:
        """Points with an id of before are overwritten, then the others of before go: no moment without the document."""
        with self._asking():
            for start in range(0, len(entry.points), AT_ONCE):
                some = entry.points[start : start + AT_ONCE]
                await self._client.upsert(self._collection, [_point(tenant, entry, point) for point in some], wait=True)
            await self._delete(tenant, entry.document, keep=[point.id for point in entry.points])

    async def remove(self, tenant: str, document: str) -> None:
        with self._asking():
            await self._delete(tenant, document, keep=[])

    async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
        return await self._search(vector.tolist(), DENSE, _filter(tenant, scope, level), limit)

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        if not len(query.terms):
            return []
        sparse = SparseVector(indices=query.terms.tolist(), values=query.weights.tolist())
        return await self._search(sparse, SPARSE, _filter(tenant, scope, level), limit)

    async def close(self) -> None:
        await self._client.close()

    async def _create(self) -> None:
        await self._client.create_collection(
            self._collection,
            vectors_config={DENSE: VectorParams(size=DIMENSIONS, distance=Distance.COSINE)},
            sparse_vectors_config={SPARSE: SparseVectorParams()},
            hnsw_config=_GRAPHS,
        )
        for name in ("tenant", "level", "document", "facets"):
            keyword = KeywordIndexParams(type=KeywordIndexType.KEYWORD, is_tenant=name == "tenant" or None)
            await self._client.create_payload_index(self._collection, name, keyword, wait=True)

    def _check(self, has: CollectionParams) -> None:
        dense = has.vectors.get(DENSE) if isinstance(has.vectors, dict) else None
        if dense is None or dense.size != DIMENSIONS or SPARSE not in (has.sparse_vectors or {}):
            raise SettingsError(
                f"PENSTOCK_RETRIEVE_INDEX_NAME: expected a collection of Penstock or none yet, but {self._collection!r}"
                f" at {self._address} has other vectors"
            )

    async def _delete(self, tenant: str, document: str, keep: Sequence[int]) -> None:
        stale = Filter(
            must=[*_tenant(tenant), FieldCondition(key="document", match=MatchValue(value=document))],
            must_not=[HasIdCondition(has_id=list(keep))] if keep else None,
        )
        await self._client.delete(self._collection, FilterSelector(filter=stale), wait=True)

    async def _search(self, query: list[float] | SparseVector, using: str, within: Filter, limit: int) -> list[int]:
        with self._asking():
            found = await self._client.query_points(
                self._collection, query=query, using=using, query_filter=within, limit=limit, with_payload=False
            )
        return [int(point.id) for point in found.points]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the client as ours, in one line."""
        try:
            yield
        except ResourceExhaustedResponse as error:
            raise Retryable(
                f"Qdrant at {self._address} ({_URL}) has too much to do", after=error.retry_after_s
            ) from None
        except ResponseHandlingException as error:
            why = str(error).strip().partition("\n")[0]
            raise Retryable(f"Qdrant at {self._address} does not answer ({why}); its address is {_URL}") from None
        except UnexpectedResponse as error:
            raise self._refused(error) from None
        except (JSONDecodeError, ValidationError):
            raise Retryable(f"what answers at {self._address} is no Qdrant; its address is {_URL}") from None
        except QdrantException as error:
            raise Retryable(f"Qdrant at {self._address} ({_URL}): {error}") from None

    def _refused(self, error: UnexpectedResponse) -> Retryable | Poison:
        status = error.status_code or 0
        if status in (401, 403):
            return Retryable(f"Qdrant at {self._address} turns down the key ({status}); it is {_KEY}")
        why = " ".join(error.content.decode(errors="replace").split())[:200]
        said = f"Qdrant at {self._address} ({_URL}) answers {status} for collection {self._collection!r}: {why}"
        may_pass = status in (404, 408, 429) or status >= 500
        return Retryable(said) if may_pass else Poison(said)


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
