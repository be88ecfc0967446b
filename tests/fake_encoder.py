"""An encoder without a model: a text's vector is the sum of one random direction a word. The same words, the same
vector; texts that share words are alike."""

import re
from collections.abc import Sequence
from functools import cache
from zlib import crc32

import numpy as np

from shared.encoder import DIMENSIONS, Encoder, Floats, PassageVectors, QueryVectors


class FakeEncoder(Encoder):
    """Stands where the real one does."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_passages(self, passages: Sequence[Sequence[str]], batch: int = 8) -> list[PassageVectors]:
        self.encoded += [" ".join(pieces) for pieces in passages]
        return [
            PassageVectors(_vector(" ".join(pieces)), np.stack([_vector(piece) for piece in pieces]))
            for pieces in passages
        ]

    def encode_query(self, text: str) -> QueryVectors:
        words = _words(text)
        tokens = np.stack([_direction(word) for word in words]) if words else np.zeros((0, DIMENSIONS), np.float32)
        return QueryVectors(_vector(text), tokens)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _vector(text: str) -> Floats:
    total: Floats = np.sum([_direction(word) for word in ["", *_words(text)]], axis=0, dtype=np.float32)
    return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


@cache
def _direction(word: str) -> Floats:
    vector = np.random.default_rng(crc32(word.encode())).standard_normal(DIMENSIONS).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
