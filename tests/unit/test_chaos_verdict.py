"""The judge of a chaos run finds what it is there to find; the plan is what the seed says."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from contracts.item import Answer, Failure, Usage
from contracts.job import ItemFailure, ItemResult, JobReport, ShardResult
from loadtest.chaos.outcome import errors
from loadtest.chaos.plan import faults
from loadtest.chaos.verdict import Found, verdict

COST = Usage(10, 0, 3, 1, 0.5)
SHARDS = [
    ShardResult("j", s, [ItemResult(n, answer=Answer("x"), usage=COST) for n in (2 * s, 2 * s + 1)]) for s in (0, 1)
]
REPORT = JobReport("j", "t", "rag", "done", size=4, succeeded=4, shards=2, usage=Usage(40, 0, 12, 4, 2.0))
MESSAGES = {"0": 1, "1": 1, "open": 1, "done": 1}
GOOD = Found(REPORT, SHARDS, MESSAGES)


def test_a_run_without_fault() -> None:
    found = verdict(4, GOOD)
    assert found.kept
    assert (found.arrived, found.lost, found.doubled, found.failed) == (4, 0, 0, 0)


def test_a_lost_item() -> None:
    found = verdict(5, GOOD)
    assert (found.lost, found.kept) == (1, False)


def test_an_item_in_two_shards() -> None:
    found = verdict(4, Found(REPORT, [*SHARDS, replace(SHARDS[0], shard=2)], MESSAGES))
    assert found.doubled == 2
    assert "item 0 arrived 2 times" in found.faults


def test_a_report_that_counts_a_shard_twice() -> None:
    found = verdict(4, Found(replace(REPORT, size=6, succeeded=6), SHARDS, MESSAGES))
    assert (found.doubled, found.kept) == (2, False)


def test_a_report_that_misses_a_shard() -> None:
    assert verdict(4, Found(replace(REPORT, size=2, succeeded=2), SHARDS, MESSAGES)).lost == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda report: replace(report, usage=replace(report.usage, cost_usd=2.5)), "cost"),
        (lambda report: replace(report, usage=replace(report.usage, prompt_tokens=50)), "prompt_tokens"),
        (lambda report: replace(report, usage=replace(report.usage, calls=5)), "calls"),
        (lambda report: replace(report, shards=3), "shards"),
        (lambda report: replace(report, state="expired"), "state"),
        (lambda report: replace(report, failures=[ItemFailure(1, "internal", "")]), "without a reason"),
    ],
)
def test_a_report_that_says_other_than_its_results(change: Callable[[JobReport], JobReport], named: str) -> None:
    found = verdict(4, Found(change(REPORT), SHARDS, MESSAGES))
    assert any(named in fault for fault in found.faults)


def test_two_messages_where_there_may_be_one() -> None:
    assert verdict(4, Found(REPORT, SHARDS, MESSAGES | {"done": 2})).faults == ["2 messages on …done"]


def test_an_item_with_nothing_and_a_failure_without_a_reason() -> None:
    items = [ItemResult(0), ItemResult(1, failure=Failure("internal", ""))]
    found = verdict(2, Found(None, [ShardResult("j", 0, items)], {}))
    assert found.failed == 1
    assert {"item 0 has neither answer nor failure", "item 1 failed without a reason", "the job has no report"} == set(
        found.faults
    )


def test_the_plan_is_what_the_seed_says_and_has_every_kind() -> None:
    plan = faults(3, 200)
    assert plan == faults(3, 200) != faults(4, 200)
    assert sum(fault.kills for fault in plan) == 200
    kinds = Counter(fault.kind for fault in plan)
    assert set(kinds) == {"kill", "kill nats", "kill redis", "redis forgets a second", "redis emptied", "stall"}
    assert len({fault.service for fault in plan if fault.kind == "kill"}) == 7


def test_the_last_line_of_a_traceback_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    told = "2026 INFO a fine\nTraceback (most recent call last):\n  File x\n    y()\nValueError: no\n2026 INFO b fine\n"
    (tmp_path / "logs" / "route.log").write_text(told + "2026 ERROR c broken\n")
    (tmp_path / "logs" / "judge.log").write_text("2026 INFO a fine\n")
    assert errors(tmp_path) == {"route": ["2 ×", "ValueError: no", "2026 ERROR c broken"]}
