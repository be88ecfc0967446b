"""What the benches compute from their measurements."""

import asyncio
import re

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.events import Hop
from contracts.item import Answer, Usage
from contracts.job import ItemResult, JobReport, ShardResult
from loadtest import bench_ask, bench_fanout, failover_phases
from loadtest.failover_phases import CALM, FAULTS, Asked
from loadtest.fanout import ours, peers
from loadtest.fanout.system import Incomplete, Measured


def hop(service: str, step: str, number: int, queued: float, took: float) -> Hop:
    return Hop("default", "j", "t", service, step, number, at=float(number), queued_ms=queued, took_ms=took)


def test_steps_that_one_service_takes_in_a_row_queue_once() -> None:
    job = [
        hop("judge", "judge", 3, 2.0, 1.0),  # records may come in any order
        hop("route", "render", 1, 1.0, 4.0),
        hop("route", "decide", 2, 5.0, 0.5),
        hop("retrieve", "retrieve", 0, 1.5, 6.0),
        hop("route", "report", 0, 9.0, 9.0),  # comes after the result
    ]
    shares = bench_ask._shares([job, job])
    assert [(s.service, s.steps, s.queue_ms, s.work_ms) for s in shares] == [
        ("retrieve", "retrieve", 1.5, 6.0),
        ("route", "render + decide", 1.0, 4.5),
        ("judge", "judge", 2.0, 1.0),
    ]


def test_a_way_that_few_questions_took_is_left_out() -> None:
    usual = [hop("retrieve", "retrieve", 0, 1.0, 2.0)]
    assert len(bench_ask._shares([usual, usual, usual, [hop("judge", "judge", 0, 1.0, 2.0)]])) == 1


def test_what_no_hop_accounts_for_is_the_rest() -> None:
    shares = bench_ask._shares([[hop("retrieve", "retrieve", 0, 1.0, 2.0)]])
    summary = bench_ask._summary([10.0, 12.0, 14.0], shares)
    assert (summary["p50_ms"], summary["p95_ms"], summary["rest_ms"]) == (12.0, 14.0, 9.0)


def test_ratios_are_of_medians() -> None:
    numbers = {
        "ours": [Measured(100, 0.01), Measured(100, 0.1), Measured(100, 0.02)],
        "celery": [Measured(100, 1.0)],
        "taskiq": [Measured(100, 0.5), Measured(100, 0.2), Measured(100, 0.25)],
    }
    summary = bench_fanout._summary(numbers, 100, 3)
    assert summary["items_per_s"] == {"ours": 5000.0, "celery": 100.0, "taskiq": 400.0}
    assert (summary["ratio_celery"], summary["ratio_taskiq"]) == (50.0, 12.5)


def message(subject: str, body: object) -> Msg:
    return Msg(_client=Client(), subject=subject, data=msgspec.json.encode(body))


def shard(*numbers: int) -> ShardResult:
    return ShardResult("j", 0, [ItemResult(n, answer=Answer("ok"), usage=Usage()) for n in numbers])


def report(succeeded: int) -> JobReport:
    return JobReport("j", "bench", "noop", "done", size=3, succeeded=succeeded, failed=3 - succeeded)


async def taken(*messages: Msg) -> ours._Results:
    results = ours._Results(3)
    for one in messages:
        await results.take(one)
    return results


async def test_ours_counts_only_when_report_and_all_items_are_here() -> None:
    done, first, second = (
        message("r.b.j.done", report(3)),
        message("r.b.j.0", shard(0, 1)),
        message("r.b.j.1", shard(2)),
    )
    assert not (await taken(done, first)).complete.is_set()
    assert not (await taken(first, first, second)).complete.is_set()
    complete = await taken(first, done, second)
    assert complete.complete.is_set()
    ours._check(complete, 3)


async def test_ours_gets_no_number_when_items_fail() -> None:
    results = await taken(message("r.b.j.0", shard(0, 1)), message("r.b.j.done", report(2)))
    await asyncio.wait_for(results.complete.wait(), 1)  # it does not wait for what will not come
    with pytest.raises(Incomplete, match="all 3 succeeded"):
        ours._check(results, 3)


def test_the_peers_are_pinned_with_hashes() -> None:
    lock = peers.LOCK.read_text()
    packages = re.findall(r"^(\S+) \\$", lock, re.MULTILINE)
    assert {"celery", "taskiq", "taskiq-nats", "redis"} <= {name.split("==")[0] for name in packages}
    assert all("==" in name for name in packages)
    assert lock.count("--hash=sha256:") >= len(packages)
    assert "://" not in lock


def test_failover_counts_rungs_what_failed_and_what_was_lost_and_says_when_a_rung_took_over() -> None:
    phases = (CALM, FAULTS[0], CALM)
    asked = [
        Asked(0, 0.0, 0.5, "primary"),
        Asked(1, 10.0, 14.0, "primary"),  # was on its way when the fault began
        Asked(1, 11.0, 11.5, "backup"),
        Asked(1, 12.0, None, reason="TimeoutError"),
        Asked(2, 20.0, 20.5, "backup"),
        Asked(2, 21.0, 21.5, reason="given up"),
        Asked(2, 22.0, 23.0, "primary"),
    ]
    found = failover_phases.lines(asked, [0.0, 10.0, 20.0], phases)
    assert [(line.asks, line.rungs, line.failed, line.lost, line.after_s) for line in found] == [
        (1, {"primary": 1}, 0, 0, 0.5),
        (3, {"primary": 1, "backup": 1}, 0, 1, 1.5),
        (3, {"backup": 1, "primary": 1}, 1, 0, 3.0),
    ]
    assert failover_phases.summary(asked, found) == {
        "asks": 7, "availability": 0.71429, "lost": 1, "failed": 1, "rungs": {"primary": 3, "backup": 2},
        "reroute_s": {"outage": 1.5}, "back_s": {"outage": 3.0}, "reasons": {"TimeoutError": 1, "given up": 1},
    }  # fmt: skip


def test_failover_phases_take_their_share_of_the_asks() -> None:
    phases = (CALM, FAULTS[0], CALM)  # 1.5 : 1 : 1.5
    places = [failover_phases.phase_at(i / 8, phases) for i in range(8)]
    assert places == [0, 0, 0, 1, 1, 2, 2, 2]
    assert failover_phases.phase_at(1.0, phases) == 2
