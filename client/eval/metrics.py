"""Measures of a ranking against graded judgements, for one query each. A ranking is a list of ids, best first."""

import math
from collections.abc import Mapping, Sequence


def ndcg(ranking: Sequence[str], relevant: Mapping[str, int], k: int = 10) -> float:
    """Normalised discounted cumulative gain with the grade as the gain, as trec_eval's ndcg_cut has it.

    DCG = Σ grade_i / log2(i + 1), over the first k, divided by that of the best possible ranking.
    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 20 (2002).
    """
    best = _dcg(sorted(relevant.values(), reverse=True)[:k])
    return _dcg([relevant.get(found, 0) for found in ranking[:k]]) / best if best else 0.0


def recall(ranking: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Share of the relevant passages that are among the first k."""
    return sum(found in relevant for found in ranking[:k]) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], relevant: Mapping[str, int], k: int = 10) -> float:
    """1 / place of the first relevant passage, 0 where none is among the first k. Its mean is MRR@k."""
    return next((1 / place for place, found in enumerate(ranking[:k], 1) if found in relevant), 0.0)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0…1) of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))] if ordered else 0.0


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))
