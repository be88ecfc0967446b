"""A cross-encoder in ONNX: question and passage are read together, one score comes out."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from contracts.item import Passage
from shared.settings import SettingsError

BATCH = 8


class CrossEncoder:
    """Any sequence-classification model of the BERT family, exported with its usual input names.

    The score is the last column of the first output, (pairs, 1) or (pairs, 2): the logit of "relevant".
    """

    def __init__(self, folder: Path, max_tokens: int = 512, threads: int = 2) -> None:
        self._tokenizer = _tokenizer(folder, max_tokens)
        self._session = _session(folder, threads)
        self.inputs = [given.name for given in self._session.get_inputs()]
        self._thread = ThreadPoolExecutor(1, "cross-encoder")

    async def score(self, question: str, passages: Sequence[Passage]) -> list[float]:
        texts = [passage.text for passage in passages]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, question, texts)

    async def close(self) -> None:
        self._thread.shutdown()

    def _score(self, question: str, texts: Sequence[str]) -> list[float]:
        pairs = self._tokenizer.encode_batch([(question, text) for text in texts])
        scores = np.zeros(len(pairs))
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row].ids))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            output = np.asarray(self._session.run(None, self._feed([pairs[row] for row in rows]))[0])
            scores[rows] = output.reshape(len(rows), -1)[:, -1]
        return [float(score) for score in scores]

    def _feed(self, pairs: Sequence[Encoding]) -> dict[str, NDArray[np.int64]]:
        columns = {
            "input_ids": [pair.ids for pair in pairs],
            "attention_mask": [pair.attention_mask for pair in pairs],
            "token_type_ids": [pair.type_ids for pair in pairs],
        }
        return {name: _padded(columns[name]) for name in self.inputs}


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    table = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(_found(folder / "tokenizer.json")))
    tokenizer.enable_truncation(max_tokens, strategy="only_second")
    tokenizer.no_padding()
    return tokenizer


def _session(folder: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(_found(folder / "model.onnx")), options, providers=["CPUExecutionProvider"])
    unknown = {given.name for given in session.get_inputs()} - {"input_ids", "attention_mask", "token_type_ids"}
    if unknown:
        raise SettingsError(
            f"PENSTOCK_RERANK_MODEL: {folder / 'model.onnx'} wants the input {min(unknown)!r}; expected a model that"
            " takes input_ids, attention_mask and, if need be, token_type_ids"
        )
    return session


def _found(path: Path) -> Path:
    if not path.is_file():
        raise SettingsError(f"PENSTOCK_RERANK_MODEL: expected a folder with model.onnx and tokenizer.json, no {path}")
    return path
