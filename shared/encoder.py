"""The text encoder: all-MiniLM-L6-v2, int8 ONNX, carried in `shared/models/` (licence and origin beside it)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
"""Texts that are encoded together: larger batches are no faster here, and take more memory."""
SHARED = 0.25
"""How much of a passage's vector its pieces' vectors give up. It is where they come nearest to the vectors of the same
pieces encoded by themselves: see docs/retrieval.md."""
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


@dataclass(frozen=True)
class _Window:
    """A stretch of a passage that the encoder sees at once: token ids, and to which piece each inner one belongs."""

    passage: int
    ids: list[int]
    pieces: list[int]


class Encoder:
    """Encodes texts to unit vectors. Safe to call from several threads; the heavy part releases the GIL.

    One run uses one thread, and `threads` runs go on at a time: that wastes least, as nothing waits for the slowest
    part of every layer. Threads without work sleep.
    """

    def __init__(self, model_dir: Path = MODEL_DIR, threads: int = 2) -> None:
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._release = ort.RunOptions()  # gives memory back that a large batch has taken
        self._release.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._threads = ThreadPoolExecutor(threads, "encode")

    def encode(self, texts: Sequence[str], batch: int = BATCH) -> Floats:
        """Unit vectors, shape (len(texts), 384); what is beyond 256 tokens does not count."""
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        ids = [_truncated(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        for row, hidden in self._hidden(ids, batch):
            vectors[row] = hidden.sum(axis=0)
        return _unit(vectors)

    def encode_passages(self, passages: Sequence[Sequence[str]], batch: int = BATCH) -> list[PassageVectors]:
        """Encode passages of any length, each given in its pieces (at least one), which are read as one text.

        A passage longer than 254 tokens is read in windows, and its vector is the mean over all of its tokens. A
        piece's vector is the mean of its own tokens, so it costs no second pass; a quarter of the passage's vector is
        taken off, because every token has taken in its surroundings, which would make the pieces too much alike.
        """
        windows = [window for n, pieces in enumerate(passages) for window in self._windows(n, pieces)]
        whole = np.zeros((len(passages), DIMENSIONS), dtype=np.float32)
        segments = [np.zeros((len(pieces), DIMENSIONS), dtype=np.float32) for pieces in passages]
        for row, hidden in self._hidden([window.ids for window in windows], batch):
            window = windows[row]
            whole[window.passage] += hidden.sum(axis=0)
            np.add.at(segments[window.passage], window.pieces, hidden[1:-1])
        vectors = _unit(whole)
        return [
            PassageVectors(vector, _unit(_unit(pieces) - SHARED * vector if len(pieces) > 1 else pieces))
            for vector, pieces in zip(vectors, segments, strict=True)
        ]

    def encode_query(self, text: str) -> QueryVectors:
        """One query with its token vectors."""
        hidden = self._run([_truncated(self._tokenizer.encode(text).ids)])[0]
        return QueryVectors(vector=_unit(hidden.sum(axis=0)), tokens=_unit(hidden[1:-1]))

    def encode_tokens(self, texts: Sequence[str], batch: int = BATCH) -> list[QueryVectors]:
        """Texts with their token vectors, for late interaction; what is beyond 256 tokens does not count."""
        ids = [_truncated(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        found = {
            row: QueryVectors(vector=_unit(hidden.sum(axis=0)), tokens=_unit(hidden[1:-1]))
            for row, hidden in self._hidden(ids, batch)
        }
        return [found[row] for row in range(len(texts))]

    def _windows(self, passage: int, pieces: Sequence[str]) -> Iterator[_Window]:
        encodings = self._tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
        ids = [token for encoding in encodings for token in encoding.ids]
        owners = [piece for piece, encoding in enumerate(encodings) for _ in encoding.ids]
        size = MAX_TOKENS - 2
        for start in range(0, max(len(ids), 1), size):
            stretch = slice(start, start + size)
            yield _Window(passage, [_CLS, *ids[stretch], _SEP], owners[stretch])

    def _hidden(self, ids: Sequence[Sequence[int]], batch: int) -> Iterator[tuple[int, Floats]]:
        """Row numbers, in any order, with their token vectors, (own tokens, 384)."""

        def run(rows: list[int]) -> list[tuple[int, Floats]]:
            hidden = self._run([ids[row] for row in rows], self._release)
            return [(row, vectors[: len(ids[row])]) for row, vectors in zip(rows, hidden, strict=True)]

        batches = list(_by_length(ids, batch))
        for found in self._threads.map(run, batches) if len(batches) > 1 else map(run, batches):
            yield from found

    def _run(self, ids: Sequence[Sequence[int]], options: ort.RunOptions | None = None) -> Floats:
        longest = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, values in enumerate(ids):
            tokens[row, : len(values)] = values
            mask[row, : len(values)] = 1
        (hidden,) = self._session.run(["h"], {"input_ids": tokens, "attention_mask": mask}, options)
        return np.asarray(hidden, dtype=np.float32)


def _truncated(ids: list[int]) -> list[int]:
    return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], _SEP]


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, 1e-9)
    return unit


def _by_length(ids: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Row numbers in batches of rows of about the same length, so that padding stays small."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]
