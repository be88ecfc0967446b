"""When to say that the documents do not say."""

from services.generate_gpu.domain.identifiers import mentions
from services.generate_gpu.domain.question import Question
from services.generate_gpu.domain.scoring import Scored
from services.generate_gpu.domain.units import Unit

REFUSAL = "The documents do not say."

THRESHOLD = 0.5
_SUPPORT, _COVERED = 0.73, 0.27
"""Weights of a logistic fit between SQuAD's questions and those of its questions whose article was left out."""


def names_what_is_absent(question: Question, units: list[Unit]) -> bool:
    """Whether the question names a code that none of the passages, nor their titles, know."""
    return any(not any(_known(code, unit) for unit in units) for code in question.codes)


def answers(best: Scored) -> bool:
    """Whether the best sentence is near enough to the question to be its answer."""
    return confidence(best) >= THRESHOLD


def confidence(best: Scored) -> float:
    """0…1: how sure it is that the sentence and its surroundings speak of what the question asks."""
    return _SUPPORT * best.support + _COVERED * best.covered


def _known(code: str, unit: Unit) -> bool:
    passage = unit.passage
    text = f"{passage.title} {passage.section} {passage.document} {unit.text}"
    return mentions(code, text, unit.codes | unit.head_codes)
