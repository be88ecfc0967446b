"""What a collection in Qdrant looks like: vectors, how they are stored, and the indexes of the payload."""

from dataclasses import dataclass
from typing import Any, Literal

from qdrant_client.models import (
    BinaryQuantization,
    BinaryQuantizationConfig,
    CollectionParams,
    Distance,
    HnswConfigDiff,
    KeywordIndexParams,
    KeywordIndexType,
    ScalarQuantization,
    ScalarQuantizationConfig,
    ScalarType,
    SparseIndexParams,
    SparseVectorParams,
    VectorParams,
)

from shared.encoder import DIMENSIONS

DENSE, SPARSE = "dense", "words"
Quantization = Literal["none", "int8", "binary"]


@dataclass(frozen=True)
class Storage:
    """How a new collection keeps its vectors: quantised ones stay in memory, whole ones and payload may lie on disk."""

    quantization: Quantization = "none"
    on_disk: bool = False


def collection(storage: Storage) -> dict[str, Any]:
    """Arguments of `create_collection`."""
    on_disk = storage.on_disk
    return {
        "vectors_config": {DENSE: VectorParams(size=DIMENSIONS, distance=Distance.COSINE, on_disk=on_disk)},
        "sparse_vectors_config": {SPARSE: SparseVectorParams(index=SparseIndexParams(on_disk=on_disk))},
        # A graph for each tenant instead of one for all, as Qdrant advises where every search keeps to one tenant.
        "hnsw_config": HnswConfigDiff(m=0, payload_m=16, on_disk=on_disk),
        "quantization_config": _quantization(storage.quantization),
        "on_disk_payload": on_disk,
    }


def payload_indexes(storage: Storage) -> dict[str, KeywordIndexParams]:
    """By field. Points of one tenant lie together: `is_tenant`."""
    return {
        name: KeywordIndexParams(
            type=KeywordIndexType.KEYWORD, is_tenant=name == "tenant" or None, on_disk=storage.on_disk or None
        )
        for name in ("tenant", "level", "document", "facets")
    }


def is_ours(has: CollectionParams) -> bool:
    """Whether a collection has our vectors."""
    dense = has.vectors.get(DENSE) if isinstance(has.vectors, dict) else None
    return dense is not None and dense.size == DIMENSIONS and SPARSE in (has.sparse_vectors or {})


def _quantization(kind: Quantization) -> ScalarQuantization | BinaryQuantization | None:
    if kind == "int8":
        return ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8, quantile=0.99, always_ram=True))
    if kind == "binary":
        return BinaryQuantization(binary=BinaryQuantizationConfig(always_ram=True))
    return None
