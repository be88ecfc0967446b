"""Waiting for what is known to be away is no failed attempt: on real servers."""

import time
from collections.abc import Sequence

import msgspec
import pytest
from in_process import Core, RerankSettings, eventually, question

from contracts import subjects
from contracts.events import Hop
from contracts.item import Answer, Item
from contracts.steps import Rerank
from contracts.subjects import WORK
from contracts.task import Task
from shared import delivery as delivery_module
from shared.bus import CLAIM_BYTES
from shared.delivery import Delivery
from shared.errors import Later, Retryable
from shared.worker import SILENT

pytestmark = pytest.mark.servers

WAIT = "the model is away"
SETTINGS = RerankSettings(attempts=3, ack_wait_s=2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_BACKOFF_S", 0.2)


class Script:
    """A handler that raises what it is told, one error a call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times: list[float] = []

    async def __call__(self, task: Task, step: Rerank) -> Sequence[Item]:
        self.times.append(time.time())
        if self.errors:
            raise self.errors.pop(0)
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]


def waits(times: int, after: float = 0.02) -> list[Exception]:
    return [Later(WAIT, after=after) for _ in range(times)]


async def test_a_task_may_wait_more_often_than_it_may_fail(core: Core) -> None:
    await core.route()
    times = SETTINGS.attempts * SILENT + 3
    script = Script(*waits(times))
    await core.rerank(script, SETTINGS)
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report(seconds=20)
    assert (report.succeeded, report.failed, len(script.times)) == (1, 0, times + 1)
    assert await core.dead() == []
    assert await core.count(WORK.name) == 0


async def test_failures_before_and_after_waiting_count_together(core: Core) -> None:
    await core.route()
    script = Script(Retryable("503"), *waits(2), Retryable("503"), *waits(2), Retryable("503"), Retryable("unheard"))
    await core.rerank(script, SETTINGS)
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report(seconds=20)
    assert (report.failed, len(script.times)) == (1, 7)
    assert report.failures[0].reason == "given up after 3 attempts: 503"


async def test_it_does_not_come_before_its_time(core: Core) -> None:
    script = Script(*waits(1, after=1.0))
    await core.rerank(script, SETTINGS)
    await core.start_job([Rerank()], [[question(0)]])
    await core.shard()
    assert script.times[1] - script.times[0] >= 0.95


async def test_a_deadline_ends_the_waiting(core: Core) -> None:
    await core.route()
    script = Script(*waits(100, after=0.1))
    await core.rerank(script, SETTINGS)
    await core.start_job([Rerank()], [[question(0)]], deadline=time.time() + 0.5)
    report = await core.report()
    assert (report.state, report.reasons) == ("expired", {"deadline_exceeded": 1})


async def test_every_run_has_its_record(core: Core) -> None:
    await core.rerank(Script(Retryable("503"), *waits(2)), SETTINGS)
    await core.start_job([Rerank()], [[question(0)]])
    await core.shard()

    async def all_there() -> bool:
        return len(await core.messages("EVENTS", subjects.events(core.tenant, "j1"))) == 4

    await eventually(all_there)
    hops = [msgspec.json.decode(raw, type=Hop) for raw in await core.messages("EVENTS", f"events.{core.tenant}.j1")]
    assert [hop.error for hop in hops] == ["503", WAIT, WAIT, ""]
    assert [hop.attempt for hop in hops] == [1, 2, 2, 2]


async def test_a_worker_that_dies_between_the_new_message_and_the_old_ones_end_doubles_nothing(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await core.route()
    done, crashes = Delivery.done, 0

    async def crashing(self: Delivery) -> None:
        nonlocal crashes
        if crashes == 0:
            crashes += 1
            await self.message.nak()
            return
        await done(self)

    monkeypatch.setattr(Delivery, "done", crashing)
    await core.rerank(Script(*waits(1, after=0.3)), SETTINGS)
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report()
    assert (report.succeeded, report.failed) == (1, 0)

    async def empty() -> bool:
        return await core.count(WORK.name) == 0

    await eventually(empty)


async def test_a_large_task_waits_by_its_claim(core: Core) -> None:
    await core.route()
    script = Script(*waits(2))
    await core.rerank(script, SETTINGS)
    await core.start_job([Rerank()], [[question(0, "long " * (CLAIM_BYTES // 4))]])
    assert (await core.report()).succeeded == 1
    assert len(script.times) == 3
