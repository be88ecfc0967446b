"""How well a sentence answers a question: first by its words, then, for the best of those, by its vectors.

The weights were set by hand after a look at a linear fit on half of SQuAD's questions and a check on the other half;
see `penstock eval reader`.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from services.generate_gpu.domain.question import Question, fits
from services.generate_gpu.domain.units import Unit

SHORTLIST = 8
"""Sentences that are encoded for a question, at most: of those that hold the answer, words alone rank .99 this high."""
HOPELESS = 0.3
"""Sentences whose words score this much less than the best are not encoded: their vectors could not make up for it."""

_SHORT = 5  # letters of a word that may be the short form of a longer one
_WRONG_CODE = 0.6
_RIGHT_CODE = 0.15
_HEADING = 0.25
_CLAUSE = 0.5


class Scored(Struct, frozen=True):
    """A sentence and how well it answers."""

    unit: Unit
    words: float  # score by words and place alone
    own: float  # 0…1: share of the question's terms, by weight, in the sentence itself
    covered: float  # 0…1: share of the question's terms, by weight, in the sentence's surroundings
    support: float = 0.0  # 0…1: mean over the question's tokens of the most similar token of the sentence

    @property
    def score(self) -> float:
        return self.words + self.support


def shortlist(question: Question, units: list[Unit]) -> list[Scored]:
    """The units that are worth encoding: those that score best by what costs nothing, best first."""
    best = max((unit.passage.score for unit in units), default=0.0)
    named = question.codes & frozenset(code for unit in units for code in unit.codes)
    kin = _kin(question, units)
    scored = [_words(question, unit, kin, best, named) for unit in units]
    ranked = sorted(scored, key=lambda s: -s.words)[:SHORTLIST]
    return [one for one in ranked if one.words >= ranked[0].words - HOPELESS]


def _kin(question: Question, units: list[Unit]) -> dict[str, frozenset[str]]:
    """The words of the passages that each term of the question stands for: itself, and "physiotherapy" for "physio"."""
    known = frozenset(term for unit in units for term in unit.context)
    return {
        term: frozenset(other for other in known if other == term or (len(term) >= _SHORT and other.startswith(term)))
        for term in question.terms
    }


def _words(
    question: Question, unit: Unit, kin: dict[str, frozenset[str]], best: float, named: frozenset[str]
) -> Scored:
    covered = sum(w for term, w in question.terms.items() if kin[term] & unit.context) / question.weight
    own = sum(w for term, w in question.terms.items() if kin[term] & unit.terms.keys()) / question.weight
    shared_pairs = len(question.pairs & unit.pairs) / max(1, len(question.pairs))
    score = (
        0.25 * own
        + 0.35 * covered
        + 0.2 * shared_pairs
        + 0.08 * fits(question, unit.text)
        + 0.25 * unit.passage.evidence.cosine
        + 0.02 * max(-5.0, unit.passage.score - best)
        + _identity(question, unit, named)
        - (_HEADING if unit.is_heading else 0.0)
    )
    return Scored(unit=unit, words=score, own=own, covered=covered)


def _identity(question: Question, unit: Unit, named: frozenset[str]) -> float:
    """Whether the sentence speaks of what the question names: a row of another item is wrong however alike it looks."""
    score = _CLAUSE if question.clause and unit.passage.clause == question.clause else 0.0
    if not question.codes:
        return score
    if (named & unit.codes) or (question.codes & unit.head_codes):
        wrong_row = named and unit.is_row and unit.codes and not named & unit.codes
        return score + (-_WRONG_CODE if wrong_row else _RIGHT_CODE)
    codes = unit.codes if named and unit.is_row else frozenset[str]()
    other_document = unit.head_codes and not question.codes & unit.head_codes
    return score - (_WRONG_CODE if codes or other_document else 0.0)


def encoded_text(question: Question, unit: Unit) -> str:
    """What is encoded for a unit: the sentence, led by those headings that hold what the question names."""
    missing = {term for term in question.terms if term not in unit.terms}
    lead = [unit.intro.text] if unit.intro else []
    if missing & unit.head_terms.keys():
        lead.insert(0, f"{unit.passage.title} {unit.passage.section}:")
    return " ".join([*lead, unit.text])


def support(question_tokens: NDArray[np.float32], sentence_tokens: NDArray[np.float32]) -> float:
    """Late interaction (ColBERT's MaxSim, as a mean): unit vectors (q, d) and (s, d) → −1…1."""
    if not len(question_tokens) or not len(sentence_tokens):
        return 0.0
    return float((question_tokens @ sentence_tokens.T).max(axis=1).mean())
