"""Arrays as blobs: how terms and vectors lie in SQLite."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.retrieve.domain.scoring import Array, Index
from shared.encoder import DIMENSIONS, Floats

TERMS, COUNTS, HALVES, BYTES = "<u4", "<u2", "<f2", "i1"


def blob(values: NDArray[np.generic], kind: str) -> bytes:
    return values.astype(kind).tobytes()


def vectors(blobs: Sequence[bytes]) -> Floats:
    """Vectors of float16, one a blob; shape (blobs, 384)."""
    return np.frombuffer(b"".join(blobs), HALVES).reshape(-1, DIMENSIONS).astype(np.float32)


def segments(blobs: Sequence[bytes]) -> tuple[NDArray[np.int8], Index]:
    """Segment vectors of all blobs one after the other, (s, 384), and where each blob's begin, (blobs,)."""
    ends = np.cumsum([len(some) // DIMENSIONS for some in blobs])
    starts = np.concatenate([[0], ends[:-1]]).astype(np.intp)
    return np.frombuffer(b"".join(blobs), BYTES).reshape(-1, DIMENSIONS), starts


def pick(terms: Sequence[bytes], counts: Sequence[bytes], wanted: NDArray[np.uint32]) -> Array:
    """The counts of the wanted terms (ascending) in each row, 0 where a row has not got one; shape (rows, wanted)."""
    picked = np.zeros((len(terms), len(wanted)), dtype=np.float64)
    ids = np.frombuffer(b"".join(terms), TERMS)
    if not len(ids) or not len(wanted):
        return picked
    likely = np.flatnonzero(_low_halves(wanted)[ids.view("<u2")[::2]])
    places = np.minimum(np.searchsorted(wanted, ids[likely]), len(wanted) - 1)
    true = wanted[places] == ids[likely]
    hits, places = likely[true], places[true]
    ends = np.cumsum([len(some) // 4 for some in terms])
    rows = np.searchsorted(ends, hits, side="right")
    picked[rows, places] = np.frombuffer(b"".join(counts), COUNTS)[hits]
    return picked


def _low_halves(wanted: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether any wanted term ends in these 16 bits: a look-up that rules out nearly all others at once."""
    table = np.zeros(1 << 16, dtype=np.bool_)
    table[wanted & 0xFFFF] = True
    return table


def vector_bytes() -> int:
    """How long the blob of one vector is."""
    return DIMENSIONS * 2
