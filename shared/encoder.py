"""The text encoder: all-MiniLM-L6-v2, int8 ONNX, carried in `shared/models/` (licence and origin beside it)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float32]

MODEL_DIR = Path(__file__).parent / "models" / "all-MiniLM-L6-v2-int8"
DIMENSIONS = 384
MAX_TOKENS = 256


@dataclass(frozen=True)
class QueryVectors:
    """A query's encoding: `vector` (384,), and `tokens` (t, 384) without CLS and SEP; all of unit length."""

    vector: Floats
    tokens: Floats


class Encoder:
    """Encodes texts to unit vectors. Safe to call from several threads; the heavy part releases the GIL."""

    def __init__(self, model_dir: Path = MODEL_DIR, threads: int = 2) -> None:
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn a core
        self._session = ort.InferenceSession(str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str], batch: int = 16) -> Floats:
        """Unit vectors, shape (len(texts), 384). Texts are sorted by length inside, so that padding stays small."""
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        for rows in _slices(order, batch):
            hidden, mask = self._run([encodings[i].ids for i in rows])
            sums = (hidden * mask[:, :, None]).sum(axis=1)
            vectors[rows] = _unit(sums)
        return vectors

    def encode_query(self, text: str) -> QueryVectors:
        """One query with its token vectors."""
        hidden, _ = self._run([self._tokenizer.encode(text).ids])
        return QueryVectors(vector=_unit(hidden[0].sum(axis=0)), tokens=_unit(hidden[0][1:-1]))

    def encode_tokens(self, texts: Sequence[str], batch: int = 16) -> list[QueryVectors]:
        """Texts with their token vectors, for late interaction; batched like `encode`."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
        found: dict[int, QueryVectors] = {}
        for rows in _slices(order, batch):
            hidden, _ = self._run([encodings[i].ids for i in rows])
            for row, i in zip(hidden, rows, strict=True):
                own = row[: len(encodings[i].ids)]
                found[i] = QueryVectors(vector=_unit(own.sum(axis=0)), tokens=_unit(own[1:-1]))
        return [found[i] for i in range(len(texts))]

    def _run(self, ids: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
        longest = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, values in enumerate(ids):
            tokens[row, : len(values)] = values
            mask[row, : len(values)] = 1
        (hidden,) = self._session.run(["h"], {"input_ids": tokens, "attention_mask": mask})
        return np.asarray(hidden, dtype=np.float32), mask.astype(np.float32)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, 1e-9)
    return unit


def _slices(order: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield list(order[start : start + size])
