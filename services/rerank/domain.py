"""Scoring from evidence: what retrieve found out about each passage while it stood next to the index."""

from collections.abc import Sequence

from contracts.item import Evidence, Passage


def from_evidence(evidence: Evidence) -> float:
    """z(B) + .6 z(S) + .5 z(m1) + .2 z(m2); see docs/retrieval.md."""
    return evidence.words + 0.6 * evidence.vectors + 0.5 * evidence.segment + 0.2 * evidence.tokens


class EvidenceScorer:
    """The embedded scorer: no model, microseconds a passage."""

    async def score(self, question: str, passages: Sequence[Passage]) -> list[float]:
        return [from_evidence(passage.evidence) for passage in passages]
