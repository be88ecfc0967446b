"""Qdrant Edge: the Rust engine in this process, one shard for vectors and words of all tenants.

Vectors are stored with 8 bits a component and scanned without a graph: 100,000 passages take about 4 ms, and there is
no graph to build, which would stop the process for seconds (Edge's `optimize` holds Python's lock all the while).
What comes back is only a list of candidates; the scores are computed from exact vectors.
Calls run on the event loop: Edge holds Python's lock anyway, so a thread would only add a switch.
"""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    KeywordIndexParams,
    MatchAny,
    MatchValue,
    Query,
    QueryRequest,
    ScrollRequest,
    SparseVector,
    UpdateOperation,
    VectorStorageDatatype,
)
from qdrant_edge import Point as EdgePoint

from services.retrieve.domain.ports import Entry, Level, Point, Scope, WeightedQuery
from shared.encoder import DIMENSIONS, Floats
from shared.errors import PenstockError

if TYPE_CHECKING:
    from qdrant_edge import ConditionType  # exists in the stub only

DENSE, SPARSE, OWNER = "dense", "words", "owner"
AT_ONCE = 64
"""Points in one update: a few milliseconds, so that a waiting query gets its turn."""
_NEVER_KB = 1 << 40


class IndexInUse(PenstockError):
    """Another process has the index open."""


class Edge:
    """Serves the Protocols Vectors, Words and Successor."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard: EdgeShard | None = None

    async def open(self) -> bool:
        """Load the shard, or create it; compacts what deletions have left. Raises IndexInUse."""
        created = not (self._folder / "edge_config.json").exists()
        self._shard = self._create() if created else self._load()
        return created

    async def begin(self) -> None:
        self._shard = self._create()

    async def replace(self, tenant: str, *entries: Entry) -> None:
        for entry in entries:
            await self.remove(tenant, entry.document)
            await self._write(tenant, entry)

    async def fill(self, tenant: str, entries: Sequence[Entry]) -> None:
        for entry in entries:
            await self._write(tenant, entry)

    async def _write(self, tenant: str, entry: Entry) -> None:
        for start in range(0, len(entry.points), AT_ONCE):
            some = entry.points[start : start + AT_ONCE]
            self._open.update(UpdateOperation.upsert_points([_point(tenant, entry, point) for point in some]))
            await asyncio.sleep(0)

    async def remove(self, tenant: str, document: str) -> None:
        owned = _any(OWNER, [_owner(tenant, level) for level in Level])
        whole = Filter(must=[owned, FieldCondition(key="document", match=MatchValue(document))])
        self._open.update(UpdateOperation.delete_points_by_filter(whole))

    async def compact(self) -> None:
        """Copy what is left into new files: those of before hold what was deleted until its place is needed.

        Nobody may write meanwhile. Where it is interrupted the index is as before, or begins anew.
        """
        fresh = Edge(self._folder.with_name(f"{self._folder.name}.new"))
        fresh._shard = fresh._create()
        offset, more = None, True
        while more:
            page = ScrollRequest(offset=offset, limit=AT_ONCE, with_payload=True, with_vector=True)
            records, offset = self._open.scroll(page)
            points = [EdgePoint(record.id, record.vector or {}, record.payload) for record in records]
            fresh._open.update(UpdateOperation.upsert_points(points))
            await asyncio.sleep(0)
            more = offset is not None
        await fresh.close()
        await self.close()
        shutil.rmtree(self._folder)
        fresh._folder.rename(self._folder)
        self._shard = self._load()

    async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
        return self._search(tenant, Query.Nearest(vector.tolist(), using=DENSE), scope, level, limit)

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        if not len(query.terms):
            return []
        sparse = SparseVector(query.terms.tolist(), query.weights.tolist())
        return self._search(tenant, Query.Nearest(sparse, using=SPARSE), scope, level, limit)

    async def serve(self) -> None:
        """Written to the disk; who opens Edge next does so in this folder."""
        self._open.flush()

    async def discard(self) -> None:
        await self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def close(self) -> None:
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None

    def _search(self, tenant: str, query: Query, scope: Scope, level: Level, limit: int) -> list[int]:
        request = QueryRequest(limit=limit, query=query, filter=_filter(tenant, scope, level), with_payload=False)
        return [int(hit.id) for hit in self._open.query(request)]

    @property
    def _open(self) -> EdgeShard:
        assert self._shard is not None, "open() comes first"
        return self._shard

    def _create(self) -> EdgeShard:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        shard = EdgeShard.create(str(self._folder), _config())
        shard.update(UpdateOperation.create_field_index(OWNER, KeywordIndexParams(is_tenant=True)))
        for key in ("document", "facets"):
            shard.update(UpdateOperation.create_field_index(key, KeywordIndexParams()))
        return shard

    def _load(self) -> EdgeShard:
        try:
            shard = EdgeShard.load(str(self._folder), _config())
        except Exception as error:  # Edge has no class of its own for this
            if "WouldBlock" in str(error):
                raise IndexInUse(
                    f"{self._folder}: the index is open already; it serves one process at a time"
                ) from None
            raise
        shard.optimize()
        return shard


def _config() -> EdgeConfig:
    return EdgeConfig(
        vectors={
            DENSE: EdgeVectorParams(size=DIMENSIONS, distance=Distance.Dot, datatype=VectorStorageDatatype.Turbo8)
        },
        sparse_vectors={SPARSE: EdgeSparseVectorParams(full_scan_threshold=0)},
        optimizers=EdgeOptimizersConfig(indexing_threshold=_NEVER_KB),
        max_search_threads=1,
    )


def _point(tenant: str, entry: Entry, point: Point) -> EdgePoint:
    return EdgePoint(
        point.id,
        {DENSE: point.vector.tolist(), SPARSE: SparseVector(point.terms.tolist(), point.weights.tolist())},
        {OWNER: _owner(tenant, point.level), "document": entry.document, "facets": list(entry.facets)},
    )


def _owner(tenant: str, level: Level) -> str:
    """Tenant and level as one value: a scan checks one condition instead of two for every point."""
    return f"{level.value}\x1f{tenant}"


def _filter(tenant: str, scope: Scope, level: Level) -> Filter:
    owned = FieldCondition(key=OWNER, match=MatchValue(_owner(tenant, level)))
    conditions: list[ConditionType] = [owned]
    if scope.documents:
        conditions.append(_any("document", scope.documents))
    conditions += [_any("facets", values) for values in scope.facets]
    return Filter(must=conditions)


def _any(key: str, values: Sequence[str]) -> FieldCondition:
    return FieldCondition(key=key, match=MatchAny(list(values)))
