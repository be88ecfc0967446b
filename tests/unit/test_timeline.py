"""Where the time of a job went, from its audit log."""

from client.timeline import bar, shares, spans
from contracts.events import Hop
from contracts.item import Usage


def hop(service: str, at: float, queued_ms: float, took_ms: float, attempt: int = 1, failed: int = 0) -> Hop:
    return Hop(
        "default", "j", "default/j/0", service, service, 0, at, queued_ms, took_ms,
        items=2, failed=failed, attempt=attempt, usage=Usage(prompt_tokens=5),
    )  # fmt: skip


HOPS = [hop("judge", 101.0, 100, 200), hop("route", 100.3, 50, 250), hop("judge", 101.5, 0, 500, attempt=2, failed=1)]


def test_spans_start_with_the_first_sign_of_life_and_wait_before_they_work() -> None:
    found = spans(HOPS)
    assert [span.service for span in found] == ["route", "judge", "judge"]
    assert [round(span.start, 3) for span in found] == [0.0, 0.7, 1.0]
    assert (found[1].waiting, found[1].working, round(found[1].end, 3)) == (0.1, 0.2, 1.0)


def test_shares_sum_over_shards_in_the_order_of_first_coming() -> None:
    route, judge = shares(HOPS)
    assert (route.service, judge.service) == ("route", "judge")
    assert (judge.hops, judge.items, judge.failed, judge.retries) == (2, 4, 1, 1)
    assert (judge.waiting, judge.working) == (0.1, 0.7)
    assert judge.usage.prompt_tokens == 10


def test_a_job_without_records_has_neither() -> None:
    assert spans([]) == []
    assert shares([]) == []


def test_bars_lie_on_one_axis_and_never_leave_it() -> None:
    assert bar(5, 2, 3, 10, 10) == (" " * 5, "░░", "███")
    assert bar(10, 0, 0, 10, 10) == (" " * 9, "", "█")
    assert bar(0, 0, 0, 0, 10) == ("", "", "█")
    for start in range(11):
        for waiting in range(11 - start):
            assert len("".join(bar(start, waiting, 10 - start - waiting, 10, 7))) <= 8
