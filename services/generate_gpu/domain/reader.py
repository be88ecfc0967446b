"""The extractive reader: answers with sentences of the passages, word for word, or says that they do not say.

It stands in where no language model is at hand. It makes nothing up, and it knows nothing that is not written there.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contracts.item import Completion, Passage, Usage
from services.generate_gpu.domain.choose import SENTENCES, choose
from services.generate_gpu.domain.question import Question, understand
from services.generate_gpu.domain.refusal import (
    REFUSAL,
    Strange,
    answers,
    means_nothing_here,
    names_what_is_absent,
    strange_words,
)
from services.generate_gpu.domain.scoring import Scored, encoded_text, shortlist, support
from services.generate_gpu.domain.units import Unit, cut_all
from shared.text import count_tokens

MODEL = "extractive"

Vectors = NDArray[np.float32]


class Tokens(Protocol):
    """What the reader needs of an encoding: unit vectors of the text's tokens, shape (t, d)."""

    @property
    def tokens(self) -> Vectors: ...


class Encoder(Protocol):
    """What the reader needs of `shared.encoder.Encoder`."""

    def encode_tokens(self, texts: Sequence[str]) -> Sequence[Tokens]: ...


class _Reading(Struct, frozen=True):
    """A question with the sentences that are worth encoding, best first."""

    question: Question
    tokens: int
    shortlist: list[Scored] = []
    strange: list[Strange] = []  # what the passages lack


def read(question: str, passages: Sequence[Passage], encoder: Encoder) -> Completion:
    """At most three sentences of the passages that answer the question, each with its quote; or a refusal."""
    return read_all([(question, passages)], encoder)[0]


def read_all(asked: Sequence[tuple[str, Sequence[Passage]]], encoder: Encoder) -> list[Completion]:
    """`read` for many questions, each with its own passages: all sentences are encoded in one go."""
    readings = [_prepare(question, passages) for question, passages in asked]
    texts = [text for reading in readings for text in _texts(reading)]
    vectors = iter(encoder.encode_tokens(texts) if texts else [])
    return [_answer(reading, [next(vectors).tokens for _ in _texts(reading)]) for reading in readings]


def deltas(completion: Completion) -> Iterator[str]:
    """The text sentence by sentence, for streaming; joined, the pieces are the completion's text."""
    rest = completion.text
    for quote in completion.quotes[1:]:
        cut = rest.index(quote.text, 1)
        yield rest[:cut]
        rest = rest[cut:]
    yield rest


def _prepare(question: str, passages: Sequence[Passage]) -> _Reading:
    units = cut_all(passages)
    asked = understand(question, frozenset(code for unit in units for code in unit.head_codes))
    tokens = sum(count_tokens([question, *(passage.text for passage in passages)]))
    if not units or names_what_is_absent(asked, units):
        return _Reading(question=asked, tokens=tokens)
    return _Reading(asked, tokens, shortlist(asked, units), strange_words(asked, units))


def _texts(reading: _Reading) -> list[str]:
    """What must be encoded for a reading: the question, then its shortlist."""
    if not reading.shortlist:
        return []
    return [reading.question.text, *(encoded_text(reading.question, scored.unit) for scored in reading.shortlist)]


def _answer(reading: _Reading, vectors: list[Vectors]) -> Completion:
    scored = [
        (msgspec.structs.replace(one, support=support(vectors[0], tokens)), tokens)
        for one, tokens in zip(reading.shortlist, vectors[1:], strict=True)
    ]
    scored.sort(key=lambda pair: -pair[0].score)
    ranked = [one for one, _ in scored]
    nearest = [tokens for _, tokens in scored[:SENTENCES]]
    if not ranked or not answers(reading.question, ranked[0]):
        return _completion(REFUSAL, [], reading.tokens)
    if any(means_nothing_here(word, reading.question, vectors[0], nearest) for word in reading.strange):
        return _completion(REFUSAL, [], reading.tokens)
    units = choose(reading.question, ranked)
    return _completion(_join(units), units, reading.tokens)


def _completion(text: str, units: list[Unit], tokens: int) -> Completion:
    return Completion(
        text=text,
        model=MODEL,
        mode="extractive" if units else "refused",
        finish_reason="stop" if units else "refused",
        quotes=[unit.quote() for unit in units],
        usage=Usage(prompt_tokens=tokens, completion_tokens=count_tokens([text])[0], calls=1),
    )


def _join(units: list[Unit]) -> str:
    """Sentences of prose follow each other; rows, list items and lists stand on lines of their own."""
    text = units[0].text
    for before, unit in itertools.pairwise(units):
        alone = any(u.is_row or u.intro or "\n" in u.text or u.is_intro for u in (before, unit))
        text += ("\n" if alone else " ") + unit.text
    return text
