"""How many items a shard gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.task import Tally
from services.route.domain.pace import Cut, pace_of, shard_size, smoothed

CUT = Cut(least=15, most=500, seconds=2.0, bytes=256 * 1024)


def test_a_kind_of_job_that_was_never_seen_gets_the_least() -> None:
    assert shard_size(100_000, 3_000_000, None, CUT) == 15


def test_quick_items_fill_large_shards_and_slow_ones_small_ones() -> None:
    assert shard_size(100_000, 3_000_000, 0.000_1, CUT) == 500
    assert shard_size(100_000, 3_000_000, 0.05, CUT) == 40
    assert shard_size(100_000, 3_000_000, 3.0, CUT) == 15


def test_a_job_is_spread_over_replicas() -> None:
    assert shard_size(5000, 150_000, 0.000_1, CUT) == 157
    assert shard_size(127, 5_000, 0.000_1, CUT) == 15


def test_large_items_travel_in_small_shards() -> None:
    assert shard_size(100_000, 100_000 * 50_000, 0.000_1, CUT) == 5
    assert shard_size(10, 10 * 1_000_000, None, CUT) == 1


@given(st.integers(1, 10**7), st.integers(0, 10**11), st.none() | st.floats(0, 1e6))
def test_a_shard_is_never_empty_nor_above_the_most(items: int, size: int, pace: float | None) -> None:
    assert 1 <= shard_size(items, size, pace, CUT) <= 500


def test_pace_is_learnt_from_what_succeeded() -> None:
    assert pace_of(Tally(succeeded=8, failed=2, spent_ms=5000)) == 0.5
    assert pace_of(Tally(failed=10, spent_ms=5000)) is None
    assert smoothed(None, 2.0) == 2.0
    assert smoothed(1.0, 2.0) == pytest.approx(1.5)
