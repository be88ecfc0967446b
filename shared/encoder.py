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
BATCH = 8
"""Texts that are encoded together: on two cores larger batches are no faster, and take twice the memory."""
_CLS, _SEP = 101, 102


@dataclass(frozen=True)
class QueryVectors:
    """A query's encoding: `vector` (384,), and `tokens` (t, 384) without CLS and SEP; all of unit length."""

    vector: Floats
    tokens: Floats


@dataclass(frozen=True)
class PassageVectors:
    """A passage's encoding: `vector` (384,) of the whole and `segments` (s, 384), one of each piece; of unit length."""

    vector: Floats
    segments: Floats


class Encoder:
    """Encodes texts to unit vectors. Safe to call from several threads; the heavy part releases the GIL."""

    def __init__(self, model_dir: Path = MODEL_DIR, threads: int = 2) -> None:
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn a core
        self._session = ort.InferenceSession(str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._release = ort.RunOptions()  # gives memory back that a large batch has taken
        self._release.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def encode(self, texts: Sequence[str], batch: int = BATCH) -> Floats:
        """Unit vectors, shape (len(texts), 384); what is beyond 256 tokens does not count."""
        return _unit(self._sums([_truncated(e.ids) for e in self._tokenizer.encode_batch_fast(list(texts))], batch))

    def encode_passages(
        self, texts: Sequence[str], pieces: Sequence[Sequence[str]], batch: int = BATCH
    ) -> list[PassageVectors]:
        """Encode passages of any length, each with its pieces (at least one).

        A passage longer than 254 tokens is read in windows; its vector is the mean over all of its tokens. Pieces are
        encoded by themselves: pooling them from the passage's tokens costs half, and retrieval's quality with it
        (docs/retrieval.md). A piece that is the whole passage is encoded once.
        """
        windows = [list(_windows(encoding.ids)) for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        sums = self._sums([ids for some in windows for ids in some], batch)
        split = [[] if len(some) == 1 and some[0] == text else some for text, some in zip(texts, pieces, strict=True)]
        segments = self.encode([piece for some in split for piece in some], batch)
        passages: list[PassageVectors] = []
        window = segment = 0
        for own, some in zip(windows, split, strict=True):
            vector = _unit(sums[window : window + len(own)].sum(axis=0))
            passages.append(PassageVectors(vector, segments[segment : segment + len(some)] if some else vector[None]))
            window, segment = window + len(own), segment + len(some)
        return passages

    def encode_query(self, text: str) -> QueryVectors:
        """One query with its token vectors."""
        hidden, _ = self._run([_truncated(self._tokenizer.encode(text).ids)])
        return QueryVectors(vector=_unit(hidden[0].sum(axis=0)), tokens=_unit(hidden[0][1:-1]))

    def encode_tokens(self, texts: Sequence[str], batch: int = BATCH) -> list[QueryVectors]:
        """Texts with their token vectors, for late interaction; what is beyond 256 tokens does not count."""
        ids = [_truncated(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        found: dict[int, QueryVectors] = {}
        for rows in _by_length(ids, batch):
            hidden, _ = self._run([ids[i] for i in rows])
            for row, vectors in zip(rows, hidden, strict=True):
                own = vectors[: len(ids[row])]
                found[row] = QueryVectors(vector=_unit(own.sum(axis=0)), tokens=_unit(own[1:-1]))
        return [found[row] for row in range(len(texts))]

    def _sums(self, ids: Sequence[Sequence[int]], batch: int) -> Floats:
        """The sum of each text's token vectors, (texts, 384)."""
        sums = np.zeros((len(ids), DIMENSIONS), dtype=np.float32)
        for rows in _by_length(ids, batch):
            hidden, mask = self._run([ids[row] for row in rows], self._release)
            sums[rows] = np.einsum("btd,bt->bd", hidden, mask)
        return sums

    def _run(self, ids: Sequence[Sequence[int]], options: ort.RunOptions | None = None) -> tuple[Floats, Floats]:
        longest = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, values in enumerate(ids):
            tokens[row, : len(values)] = values
            mask[row, : len(values)] = 1
        (hidden,) = self._session.run(["h"], {"input_ids": tokens, "attention_mask": mask}, options)
        return np.asarray(hidden, dtype=np.float32), mask.astype(np.float32)


def _truncated(ids: list[int]) -> list[int]:
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], _SEP]


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, 1e-9)
    return unit


def _windows(ids: list[int]) -> Iterator[list[int]]:
    """Token ids, CLS and SEP at their ends, cut into stretches that the encoder sees at once."""
    inner, size = ids[1:-1], MAX_TOKENS - 2
    for start in range(0, max(len(inner), 1), size):
        yield [_CLS, *inner[start : start + size], _SEP]


def _by_length(ids: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Row numbers in batches of rows of about the same length, so that padding stays small."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]
