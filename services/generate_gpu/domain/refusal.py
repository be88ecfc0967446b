"""When to say that the documents do not say."""

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.generate_gpu.domain.identifiers import mentions
from services.generate_gpu.domain.question import Question
from services.generate_gpu.domain.scoring import Scored
from services.generate_gpu.domain.units import Unit
from shared.terms import WORD, rarity, stem
from shared.text import token_spans

REFUSAL = "The documents do not say."

THRESHOLD = 0.46
_SUPPORT, _COVERED = 0.73, 0.27
"""Weights of a logistic fit between SQuAD's questions and those of its questions whose article was left out. The
threshold is below that fit's own (0.5): plainly worded questions about short rules score lower than SQuAD's."""

_RARE = 0.99
_MISSPELT = 0.8
_NEAR = 0.4


def names_what_is_absent(question: Question, units: list[Unit]) -> bool:
    """Whether the question names a code that none of the passages, nor their titles, know."""
    return any(not any(_known(code, unit) for unit in units) for code in question.codes)


def strange_words(question: Question, units: list[Unit]) -> list[str]:
    """Rare words of the question ("acupuncture") that stand nowhere in the passages, not even misspelt."""
    known = {term for unit in units for term in unit.context}
    rare = (word for word in WORD.findall(question.text.lower()) if rarity(word) >= _RARE and len(word) > 3)
    return [
        word
        for word in rare
        if word.isalpha() and stem(word) not in known and not difflib.get_close_matches(stem(word), known, 1, _MISSPELT)
    ]


def means_nothing_here(
    word: str, question: Question, tokens: NDArray[np.float32], sentences: Sequence[NDArray[np.float32]]
) -> bool:
    """Whether no token of the sentences comes near a word of the question, so that they do not speak of it."""
    start = question.text.lower().index(word)
    spans = token_spans(question.text)[: len(tokens)]
    own = [i for i, (left, right) in enumerate(spans) if left >= start and right <= start + len(word)]
    nearest = [(tokens[own] @ sentence.T).max(axis=1).mean() for sentence in sentences if own and len(sentence)]
    return max(nearest, default=1.0) < _NEAR


def answers(question: Question, best: Scored) -> bool:
    """Whether the best sentence is near enough to the question to be its answer, or is of the clause it names."""
    named = question.clause and best.unit.passage.clause == question.clause
    return bool(named) or confidence(best) >= THRESHOLD


def confidence(best: Scored) -> float:
    """0…1: how sure it is that the sentence and its surroundings speak of what the question asks."""
    return _SUPPORT * best.support + _COVERED * best.covered


def _known(code: str, unit: Unit) -> bool:
    passage = unit.passage
    text = f"{passage.title} {passage.section} {passage.document} {unit.text}"
    return mentions(code, text, unit.codes | unit.head_codes)
