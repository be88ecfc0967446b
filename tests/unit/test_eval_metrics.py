"""Measures of rankings against values worked out by hand."""

import math

import pytest

from client.eval.metrics import ndcg, percentile, recall, reciprocal_rank

GRADES = {"a": 3, "b": 1, "c": 2}


def test_ndcg_is_one_for_the_best_ranking() -> None:
    assert ndcg(["a", "c", "b", "x"], GRADES) == pytest.approx(1.0)


def test_ndcg_by_hand() -> None:
    """b first, a third: (1/log2(2) + 3/log2(4)) over (3/log2(2) + 2/log2(3) + 1/log2(4))."""
    expected = (1 + 3 / 2) / (3 + 2 / math.log2(3) + 1 / 2)
    assert ndcg(["b", "x", "a"], GRADES) == pytest.approx(expected)
    assert expected == pytest.approx(0.525005)


def test_ndcg_does_not_see_beyond_its_depth() -> None:
    assert ndcg(["x", "y", "a"], {"a": 1}, k=2) == 0.0
    assert ndcg([], GRADES) == 0.0


def test_ndcg_at_a_depth_compares_with_the_best_at_that_depth() -> None:
    assert ndcg(["a", "x"], GRADES, k=1) == pytest.approx(1.0)


def test_recall_is_the_share_that_was_found() -> None:
    assert recall(["x", "a", "b", "c"], GRADES, 3) == pytest.approx(2 / 3)
    assert recall(["a"], {}, 5) == 0.0


def test_reciprocal_rank_is_of_the_first_relevant_one() -> None:
    assert reciprocal_rank(["x", "y", "b", "a"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x"] * 10 + ["a"], GRADES) == 0.0


def test_percentile_is_the_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 3.0, 5.0, 5.0]
    assert percentile([], 0.5) == 0.0
