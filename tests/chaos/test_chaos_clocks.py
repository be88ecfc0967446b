"""Clocks that disagree by a minute: what depends on them is deadlines, and nothing else."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from in_process import Core, question

from contracts.item import Answer, Item
from contracts.job import JobReport
from contracts.steps import Rerank
from contracts.task import Task
from loadtest.chaos.verdict import Found, verdict

pytestmark = pytest.mark.servers

SHARDS = 4


@dataclass(frozen=True)
class WrongClock:
    """Stands for the module `time` in one part of the system."""

    seconds: float

    def time(self) -> float:
        return time.time() + self.seconds

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


async def job(core: Core, deadline_s: float) -> JobReport:
    async def passes(task: Task, step: Rerank) -> Sequence[Item]:
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]

    await core.route()
    await core.rerank(passes)
    await core.start_job([Rerank()], [[question(n)] for n in range(SHARDS)], deadline=time.time() + deadline_s)
    report = await core.report()
    shards = [await core.shard(index) for index in range(SHARDS)]
    assert verdict(SHARDS, Found(msgspec.structs.replace(report, state="done"), shards, {})).faults == []
    return report


@pytest.mark.parametrize("seconds", [60.0, -60.0])
@pytest.mark.parametrize("module", ["shared.worker.time", "shared.hops.time"])
async def test_a_job_without_haste_does_not_notice(
    core: Core, monkeypatch: pytest.MonkeyPatch, module: str, seconds: float
) -> None:
    monkeypatch.setattr(module, WrongClock(seconds))
    report = await job(core, deadline_s=3600)
    assert (report.state, report.succeeded, report.failed) == ("done", SHARDS, 0)


async def test_a_worker_that_is_ahead_fails_items_early_and_says_why(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.worker.time", WrongClock(60.0))
    report = await job(core, deadline_s=30)
    assert (report.succeeded, report.failed, report.reasons) == (0, SHARDS, {"deadline_exceeded": SHARDS})
    assert all(failure.reason.startswith("deadline exceeded") for failure in report.failures)


async def test_a_worker_that_is_behind_lets_items_through(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.worker.time", WrongClock(-60.0))
    report = await job(core, deadline_s=5)
    assert (report.state, report.succeeded) == ("done", SHARDS)
