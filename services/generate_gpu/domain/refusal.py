"""When to say that the documents do not say."""

import difflib
import re
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from services.generate_gpu.domain.identifiers import mentions
from services.generate_gpu.domain.question import Question
from services.generate_gpu.domain.scoring import Scored
from services.generate_gpu.domain.units import Unit
from shared.terms import rarity, stem, words
from shared.text import token_spans

REFUSAL = "The documents do not say."

THRESHOLD = 0.46
_SUPPORT, _COVERED = 0.73, 0.27
"""Weights of a logistic fit between SQuAD's questions and those of its questions whose article was left out. The
threshold is below that fit's own (0.5): plainly worded questions about short rules score lower than SQuAD's."""

_RARE = 0.99
_MISSPELT = 0.8
_NEAR = 0.34  # cosine of tokens in context
_NAME_NEAR = 0.4  # names have no synonyms; nor may the object of "is … covered?" be mistaken for another
_RARE_OBJECT = 0.9
_NAME = re.compile(r"(?<=[\w,;:)] )[A-Z][a-z’'-]*\w+")


def names_what_is_absent(question: Question, units: list[Unit]) -> bool:
    """Whether the question names a code that none of the passages, nor their titles, know."""
    return any(not any(_known(code, unit) for unit in units) for code in question.codes)


class Strange(Struct, frozen=True):
    """A word of the question that the passages lack, and how near a token of theirs has to come to mean it."""

    word: str
    near: float


def strange_words(question: Question, units: list[Unit]) -> list[Strange]:
    """Names and rare words of the question ("acupuncture") that stand nowhere in the passages, not even misspelt."""
    known = {term for unit in units for term in unit.context}
    names = {word for name in _NAME.findall(question.text) for word in words(name)}
    rare = _RARE_OBJECT if question.is_of_coverage else _RARE
    found = []
    for word in dict.fromkeys(words(question.text)):
        is_telling = rarity(word) >= rare or (word in names and rarity(word) > 0)
        if is_telling and word.isalpha() and len(word) > 2 and not _is_known(stem(word), known):
            found.append(Strange(word, _NAME_NEAR if question.is_of_coverage or word in names else _NEAR))
    return found


def means_nothing_here(
    strange: Strange, question: Question, tokens: NDArray[np.float32], sentences: Sequence[NDArray[np.float32]]
) -> bool:
    """Whether no token of the sentences comes near a word of the question, so that they do not speak of it."""
    start = question.text.lower().index(strange.word)
    spans = token_spans(question.text)[: len(tokens)]
    own = [i for i, (left, right) in enumerate(spans) if left >= start and right <= start + len(strange.word)]
    nearest = [(tokens[own] @ sentence.T).max(axis=1).mean() for sentence in sentences if own and len(sentence)]
    return bool(max(nearest, default=1.0) < strange.near)


def answers(question: Question, best: Scored) -> bool:
    """Whether the best sentence is near enough to the question to be its answer, or is of the clause it names."""
    named = question.clause and best.unit.passage.clause == question.clause
    return bool(named) or confidence(best) >= THRESHOLD


def confidence(best: Scored) -> float:
    """0…1: how sure it is that the sentence and its surroundings speak of what the question asks."""
    return _SUPPORT * best.support + _COVERED * best.covered


def _is_known(term: str, known: set[str]) -> bool:
    return term in known or bool(difflib.get_close_matches(term, known, 1, _MISSPELT))


def _known(code: str, unit: Unit) -> bool:
    passage = unit.passage
    text = f"{passage.title} {passage.section} {passage.document} {unit.text}"
    return mentions(code, text, unit.codes | unit.head_codes)
