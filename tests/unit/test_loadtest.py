"""The parts of the load tests that can be wrong quietly: the search for a limit, percentiles, the bridge."""

import random
import subprocess
import sys

import pytest

from contracts.events import Hop
from loadtest.hops import percentile, shares
from loadtest.search import Search
from loadtest.slope import slope
from loadtest.visits import BATCH


def find(limit: int, search: Search) -> list[int]:
    """All rates that were tried, where those up to the limit are good."""
    tried = []
    while (rate := search.next()) is not None:
        tried.append(rate)
        search.tell(rate <= limit)
        assert len(tried) < 50, tried
    return tried


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 31, 32, 100, 999])
def test_the_search_comes_within_a_tenth(limit: int) -> None:
    search = Search()
    find(limit, search)
    assert search.best <= limit
    assert search.best >= limit * 0.9 - 1


def test_the_search_stops_at_the_most_that_it_may_try() -> None:
    search = Search(most=100)
    assert find(1000, search) == [4, 8, 16, 32, 64, 100]
    assert search.best == 100


def test_the_search_finds_that_nothing_is_good() -> None:
    search = Search()
    find(0, search)
    assert search.best == 0


def test_percentiles() -> None:
    assert [percentile([5.0, 1.0, 3.0, 2.0, 4.0], share) for share in (0.0, 0.5, 0.95)] == [1.0, 3.0, 5.0]
    assert percentile([], 0.95) == 0.0


def test_hops_are_told_apart_by_lane_service_and_step() -> None:
    def hop(job: str, step: str, at: float, took: float, attempt: int = 1) -> Hop:
        return Hop("t", job, "0", "route", step, 0, at, queued_ms=took / 2, took_ms=took, attempt=attempt)

    found = shares([hop("1", "render", 2, 4), hop("1", "open", 1, 2), hop(f"{BATCH}x", "open", 0, 8, attempt=2)])
    assert [(s.lane, s.step, s.hops, s.queue_p50, s.work_p95, s.retries) for s in found] == [
        ("interactive", "open", 1, 1.0, 2.0, 0),
        ("interactive", "render", 1, 2.0, 4.0, 0),
        ("batch", "open", 1, 4.0, 8.0, 1),
    ]


def samples(mb_per_h: float, minutes: int = 30, noise: float = 2.0, start: float = 100.0) -> list[tuple[float, float]]:
    """One in five seconds, with a sawtooth as of a garbage collector, and a warm-up that does not count."""
    draw = random.Random(1)
    found = []
    for second in range(0, minutes * 60, 5):
        warm = 30.0 * (second / (minutes * 60) < 0.15) * -1
        found.append(
            (float(second), start + warm + mb_per_h * second / 3600 + noise * draw.random() + second % 60 / 30)
        )
    return found


@pytest.mark.parametrize(
    ("mb_per_h", "grows"), [(0.0, False), (-20.0, False), (3.0, False), (30.0, True), (60.0, True)]
)
def test_memory_that_grows_is_told_from_memory_that_does_not(mb_per_h: float, grows: bool) -> None:
    found = slope(samples(mb_per_h))
    assert found.grows == grows
    assert found.low <= mb_per_h <= found.high
    assert abs(found.mb_per_h - mb_per_h) < 6


def test_one_step_of_a_megabyte_in_a_short_run_is_no_growth() -> None:
    found = [(float(s), 100.0 + (s > 70)) for s in range(120)]
    assert not slope(found).grows
    assert slope([(float(s), 100.0 + s / 4) for s in range(120)]).grows


BRIDGED = """
import asyncio, time
import locust, gevent
from loadtest.bridge import Bridge

async def twice(n):
    await asyncio.sleep(0.3)
    if n == 7:
        raise ValueError("seven")
    return 2 * n

bridge = Bridge()
began = time.perf_counter()
calls = [gevent.spawn(bridge.call, twice(n)) for n in range(7)]
gevent.joinall(calls)
assert [call.value for call in calls] == [0, 2, 4, 6, 8, 10, 12]
assert time.perf_counter() - began < 1.5, "one after the other"
try:
    bridge.call(twice(7))
except ValueError as error:
    print(error)
bridge.close()
"""


def test_greenlets_wait_side_by_side_for_coroutines() -> None:
    """In a process of its own: gevent patches all of it."""
    done = subprocess.run([sys.executable, "-c", BRIDGED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("seven\n", 0), done.stderr
