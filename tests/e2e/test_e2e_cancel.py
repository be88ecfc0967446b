"""Jobs that end before their work does: cancelled, past an item's deadline, past the job's deadline."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from client.client import Penstock
from client.stack import status
from contracts import subjects
from contracts.item import Input
from contracts.job import Options
from contracts.subjects import GROUPS
from e2e.running import SLOTS, Running, Script
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SCRIPTED = Options(model="scripted")
HANG = Reply(fault="hang")
SLOW = Reply("Fine.", delay_s=1.5)


@contextmanager
def frozen(stack: Running, service: str) -> Iterator[None]:
    """The process stands still, as in a long pause of its machine."""
    now = status(stack.data)
    assert now is not None
    os.kill(now.pids[service], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(now.pids[service], signal.SIGCONT)


async def test_a_cancelled_job_says_so_its_calls_are_aborted_and_what_waits_is_never_asked(
    penstock: Penstock, script: Script
) -> None:
    script.when("quick", "Fine.")
    script.when("hang", HANG)
    items = [Input(question="quick")] * 15 + [Input(question="hang")] * 90
    receipt = await penstock.submit("direct", items, SCRIPTED)
    await script.until(lambda script: script.calls("hang") == 15 * SLOTS)
    await _first_shard_is_back(penstock, receipt.job)
    await penstock.cancel(receipt.job, "wrong file")
    report = await penstock.report(receipt, timeout_s=30)
    assert (report.state, report.size, report.succeeded, report.failed) == ("cancelled", 105, 15, 90)
    assert report.reasons == {"cancelled": 90}
    assert {failure.reason for failure in report.failures} == {"cancelled: wrong file"}
    await script.until(lambda script: script.aborted == 15 * SLOTS)
    assert script.calls("hang") == 15 * SLOTS


@pytest.mark.parametrize("pattern", ["direct", "self-consistency"])
async def test_a_cancelled_job_costs_nothing_after_a_second_and_its_report_is_final(
    penstock: Penstock, script: Script, pattern: str
) -> None:
    """Under way, waiting in queues, and still to be scattered: all of it ends."""
    script.when("slow", SLOW)
    receipt = await penstock.submit(pattern, [Input(question=f"slow {n}") for n in range(200)], SCRIPTED)
    await script.until(lambda script: script.calls("slow") > 40)
    await penstock.cancel(receipt.job, "enough")
    await script.until(lambda script: script.aborted > 0)  # generate has heard of it, however busy the machine is
    await asyncio.sleep(1)
    bought = script.calls("slow")
    report = await penstock.report(receipt, timeout_s=30)
    assert (report.state, report.size, report.reasons.get("cancelled")) == ("cancelled", 200, report.failed)
    await _nothing_more_happens(penstock, script, receipt.job, bought)
    assert await penstock.find_report(receipt.job) == report
    assert report.usage.calls <= bought


async def test_an_expired_job_costs_nothing_after_a_second_and_its_report_is_final(
    penstock: Penstock, script: Script
) -> None:
    script.when("slow", SLOW)
    items = [Input(question=f"slow {n}") for n in range(200)]
    receipt = await penstock.submit("direct", items, SCRIPTED, deadline_s=3)
    await script.until(lambda script: script.calls("slow") > 40)
    opened = time.monotonic()
    report = await penstock.report(receipt, timeout_s=30)
    await asyncio.sleep(max(0.0, opened + 4 - time.monotonic()))
    bought = script.calls("slow")
    assert (report.state, report.size, report.reasons) == ("expired", 200, {"deadline_exceeded": report.failed})
    assert report.failed
    await _nothing_more_happens(penstock, script, receipt.job, bought)
    assert script.aborted > 0
    assert await penstock.find_report(receipt.job) == report


async def test_an_item_past_its_own_deadline_fails_and_the_others_go_on(penstock: Penstock, script: Script) -> None:
    script.when("quick", "Fine.")
    script.when("hang", HANG)
    items = [Input(question="quick"), Input(question="hang", deadline_s=1), Input(question="quick")]
    report = await penstock.report(await penstock.submit("direct", items, SCRIPTED), timeout_s=30)
    assert (report.state, report.succeeded, report.failed) == ("done", 2, 1)
    assert [(failure.n, failure.code) for failure in report.failures] == [(1, "deadline_exceeded")]
    assert "deadline" in report.failures[0].reason
    await script.until(lambda script: script.aborted == 1)


async def test_a_job_past_its_deadline_is_reported_as_expired(penstock: Penstock, script: Script) -> None:
    script.when("quick", "Fine.")
    script.when("hang", HANG)
    items = [Input(question="quick"), Input(question="hang")]
    receipt = await penstock.submit("direct", items, SCRIPTED, deadline_s=2)
    report = await penstock.report(receipt, timeout_s=30)
    assert (report.state, report.succeeded, report.failed) == ("expired", 1, 1)
    assert report.reasons == {"deadline_exceeded": 1}


async def test_the_alarm_of_a_group_ends_a_job_whose_worker_stands_still_and_the_late_result_changes_nothing(
    penstock: Penstock, operator: Penstock, stack: Running, script: Script
) -> None:
    script.when("late", "Too late.")
    with frozen(stack, "generate"):
        receipt = await penstock.submit("direct", [Input(question="late")] * 20, SCRIPTED, deadline_s=2)
        report = await penstock.report(receipt, timeout_s=30)
        assert (report.state, report.size, report.succeeded, report.failed) == ("expired", 20, 0, 20)
        assert report.reasons == {"deadline_exceeded": 20}
        assert report.seconds >= 2
        before = [shard async for shard in penstock.stored_results(receipt.job)]
    await _worked_off(operator, "generate-batch")
    assert [shard async for shard in penstock.stored_results(receipt.job)] == before
    assert await penstock.find_report(receipt.job) == report


async def test_the_alarm_of_a_scatter_inside_a_job_ends_it_too(
    penstock: Penstock, operator: Penstock, stack: Running, script: Script
) -> None:
    script.when("late", "Too late.")
    with frozen(stack, "generate"):
        receipt = await penstock.submit("self-consistency", [Input(question="late")], SCRIPTED, deadline_s=2)
        report = await penstock.report(receipt, timeout_s=30)
        await _arrived(operator, f"default/{receipt.job}/0/0", 7)
    assert (report.state, report.succeeded, report.failed) == ("expired", 0, 1)
    script.when("next", "Fine.")
    after = await penstock.ask("next", "self-consistency", options=SCRIPTED)
    assert after.answer is not None


async def _nothing_more_happens(penstock: Penstock, script: Script, job: str, bought: int) -> None:
    """For longer than a slow call takes: neither calls nor results."""
    before = [shard async for shard in penstock.stored_results(job)]
    await asyncio.sleep(2.5)
    assert script.calls("slow") == bought
    assert [shard async for shard in penstock.stored_results(job)] == before


async def _first_shard_is_back(penstock: Penstock, job: str) -> None:
    async for _ in penstock.results(job):
        return


async def _arrived(penstock: Penstock, group: str, size: int) -> None:
    """Until all children of a group have a result."""
    async with asyncio.timeout(30):
        for index in range(size):
            while await penstock.bus.last(GROUPS, subjects.arrival(group, index)) is None:  # noqa: ASYNC110  in another process
                await asyncio.sleep(0.05)


async def _worked_off(penstock: Penstock, durable: str) -> None:
    """Until nothing waits for a consumer of WORK and it holds nothing."""
    end = time.monotonic() + 30
    while True:
        consumer = await penstock.bus.js.consumer_info("WORK", durable)
        if not consumer.num_pending and not consumer.num_ack_pending:
            return
        assert time.monotonic() < end, f"{durable} still holds {consumer}"
        await asyncio.sleep(0.1)
