"""Arrays as blobs: how terms and vectors lie in SQLite."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.retrieve.domain.scoring import Array, Index
from services.retrieve.domain.terms import TermCounts
from shared.encoder import DIMENSIONS, Floats

TERMS, COUNTS, HALVES, BYTES = "<u4", "<u2", "<f2", "i1"


def blob(values: NDArray[np.generic], kind: str) -> bytes:
    return values.astype(kind).tobytes()


def vectors(blobs: Sequence[bytes]) -> Floats:
    """Vectors of float16, one a blob; shape (blobs, 384)."""
    return np.frombuffer(b"".join(blobs), HALVES).reshape(-1, DIMENSIONS).astype(np.float32)


def term_counts(terms: bytes, counts: bytes, length: int) -> TermCounts:
    """Terms as they were counted."""
    return TermCounts(np.frombuffer(terms, TERMS), np.frombuffer(counts, COUNTS), length)


def segments(blobs: Sequence[bytes]) -> tuple[NDArray[np.int8], Index]:
    """Segment vectors of all blobs one after the other, (s, 384), and where each blob's begin, (blobs,)."""
    ends = np.cumsum([len(some) // DIMENSIONS for some in blobs])
    starts = np.concatenate([[0], ends[:-1]]).astype(np.intp)
    return np.frombuffer(b"".join(blobs), BYTES).reshape(-1, DIMENSIONS), starts


def unit_segments(blob: bytes) -> Floats:
    """Segment vectors of one blob as unit vectors, (s, 384)."""
    values = np.frombuffer(blob, BYTES).reshape(-1, DIMENSIONS).astype(np.float32)
    unit: Floats = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-9)
    return unit


def pick(wanted: NDArray[np.uint32], terms: Sequence[bytes], *columns: Sequence[bytes]) -> list[Array]:
    """For each column of counts, those of the wanted terms in each row, 0 where a row has not got one;
    each of shape (rows, wanted)."""
    picked = [np.zeros((len(terms), len(wanted)), dtype=np.float64) for _ in columns]
    ids = np.frombuffer(b"".join(terms), TERMS)
    if not len(ids) or not len(wanted):
        return picked
    places, which = np.nonzero(ids[:, None] == wanted)
    rows = np.searchsorted(np.cumsum([len(some) // 4 for some in terms]), places, side="right")
    for values, column in zip(picked, columns, strict=True):
        values[rows, which] = np.frombuffer(b"".join(column), COUNTS)[places]
    return picked
