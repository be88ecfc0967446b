"""The gate of pattern 21: which expert a question belongs to. Words against words; no model is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.models import Catalogue
from shared.terms import terms

LEAST = 0.15
"""The share of a question's weight that an expert's words must cover; below it nobody is an expert."""


@dataclass(frozen=True)
class Expert:
    """A model, and the weights of the words that it is expert in."""

    model: str
    words: dict[str, float]


def experts_of(catalogue: Catalogue) -> tuple[Expert, ...]:
    """The models whose `expert` says what they are for."""
    return tuple(Expert(model.name, terms(model.expert)) for model in catalogue.models if model.expert)


def gate(question: str, experts: Sequence[Expert]) -> str:
    """The model of the expert whose words cover most of the question; empty where none covers enough, or two as much.

    Words count by how rare they are in English (`shared.terms`): "leave" and "reconcile" decide, "the" does not.
    """
    asked = terms(question)
    shares = sorted(((_share(asked, expert), expert.model) for expert in experts), reverse=True)
    if not shares or shares[0][0] < LEAST:
        return ""
    if len(shares) > 1 and shares[0][0] == shares[1][0]:
        return ""
    return shares[0][1]


def _share(asked: dict[str, float], expert: Expert) -> float:
    covered = sum(weight for word, weight in asked.items() if word in expert.words)
    return covered / (sum(asked.values()) or 1.0)
