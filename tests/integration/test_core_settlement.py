"""What becomes of a message is decided by the class of the error: on real servers."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest
from in_process import Core, RerankSettings, eventually, question

from contracts import subjects
from contracts.item import Answer, Failure, FailureCode, Item
from contracts.steps import Expire, Report, Rerank
from contracts.subjects import SHARD, WORK
from contracts.task import Parked, Task
from shared import delivery as delivery_module
from shared.errors import ItemError, PenstockError, Poison, Rejected, Retryable
from shared.worker import SILENT

pytestmark = pytest.mark.servers

WORK_RERANK = subjects.work(Rerank(), "interactive")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_BACKOFF_S", 0.2)


class Script:
    """A handler that raises what it is told, one error a call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[float] = []

    async def __call__(self, task: Task, step: Rerank) -> Sequence[Item]:
        self.calls.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]


async def test_retryable_comes_back_after_a_pause_and_then_succeeds(core: Core) -> None:
    await core.route()
    script = Script(Retryable("429"), Retryable("timeout"))
    await core.rerank(script)
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report()
    assert (report.state, report.succeeded, report.failed) == ("done", 1, 0)
    pauses = [b - a for a, b in zip(script.calls, script.calls[1:], strict=False)]
    assert len(pauses) == 2
    assert all(pause >= 0.09 for pause in pauses)
    assert await core.dead() == []


async def test_at_the_last_attempt_what_is_settled_goes_on(core: Core) -> None:
    """A handler that knows what becomes of each item loses none that is done to one that is not."""
    await core.route()
    settled = [
        msgspec.structs.replace(question(0), answer=Answer("paid for")),
        msgspec.structs.replace(question(1), failure=Failure("upstream", "given up: 500", "rerank")),
    ]
    script = Script(*(Retryable("500", settled=settled) for _ in range(3)))
    await core.rerank(script, RerankSettings(attempts=2, ack_wait_s=2))
    await core.start_job([Rerank()], [[question(0), question(1)]])
    report = await core.report()
    assert (len(script.calls), report.succeeded, report.failed, report.reasons) == (2, 1, 1, {"upstream": 1})
    assert report.failures[0].reason == "given up: 500"
    assert await core.dead() == []


async def test_the_pause_that_the_other_side_asked_for_is_kept(core: Core) -> None:
    script = Script(Retryable("429", after=1.0))
    await core.rerank(script)
    await core.start_job([Rerank()], [[question(0)]])
    await core.shard()
    assert script.calls[1] - script.calls[0] >= 0.95


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Retryable("no answer from the model"), "upstream", "given up after 2 attempts: no answer from the model"),
        (KeyError("secret of ours"), "internal", "given up after 2 attempts: internal error (KeyError)"),
    ],
)
async def test_exhausted_attempts_end_in_the_dead_letters_and_the_items_arrive_failed(
    core: Core, error: Exception, code: FailureCode, reason: str
) -> None:
    await core.route()
    script = Script(error, error)
    await core.rerank(script, RerankSettings(attempts=2, ack_wait_s=2))
    await core.start_job([Rerank()], [[question(0), question(1)]])
    report = await core.report()
    assert (len(script.calls), report.succeeded, report.failed, report.reasons) == (2, 0, 2, {code: 2})
    assert [failure.reason for failure in report.failures] == [reason, reason]
    (letter,) = await core.dead()
    assert (letter.service, letter.subject, letter.reason, letter.deliveries) == ("rerank", WORK_RERANK, reason, 2)
    assert msgspec.msgpack.decode(letter.payload, type=Task).id == f"{core.group()}/0"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Poison("breaks an invariant"), "internal"),
        (Rejected("no such prompt"), "malformed"),
        (ItemError("too_large", "does not fit"), "too_large"),
    ],
)
async def test_what_can_never_succeed_is_buried_at_the_first_try(
    core: Core, error: PenstockError, code: FailureCode
) -> None:
    await core.route()
    script = Script(error)
    await core.rerank(script)
    await core.start_job([Rerank()], [[question(0), question(1)]])
    shard = await core.shard()
    assert [item.failure for item in shard.items] == [Failure(code, str(error), "rerank")] * 2
    assert (len(script.calls), len(await core.dead())) == (1, 1)
    assert (await core.report()).failed == 2


async def test_a_job_beside_a_failing_one_goes_on_and_so_does_the_service(core: Core) -> None:
    async def picky(task: Task, step: Rerank) -> Sequence[Item]:
        if task.job == "bad":
            raise ZeroDivisionError
        return task.items

    await core.route()
    await core.rerank(picky, RerankSettings(attempts=2, ack_wait_s=2))
    await core.start_job([Rerank()], [[question(0)]], job="bad")
    await core.start_job([Rerank()], [[question(0)]], job="good")
    good, bad = await core.report("good"), await core.report("bad")
    assert (good.succeeded, bad.failed) == (1, 1)


@pytest.mark.parametrize(
    "payload",
    [b"\xc1 not msgpack", b"\x81\xa2id\xa2\xff\xfe", b"", b"\x80"],
    ids=["no msgpack", "no UTF-8", "empty", "no fields"],
)
async def test_a_task_that_cannot_be_read_fails_the_items_of_its_header(core: Core, payload: bytes) -> None:
    await core.route()
    await core.rerank(Script())
    await core.hops.open_group(core.group("j2"), _parked_of_two(core))
    await core.bus.publish(WORK_RERANK, payload, headers={SHARD: f"{core.group('j2')} 1 1"})
    shard = await core.shard(1, "j2")
    assert [(item.n, item.failure.code if item.failure else "") for item in shard.items] == [(1, "internal")]
    (letter,) = await core.dead()
    assert letter.payload == payload
    assert letter.reason.startswith("not a task: ")
    assert (await core.redis.hget("group:{" + core.group("j2") + "}", "failed")) == b"1"


@pytest.mark.parametrize("header", ["", "nonsense", "a b c", "acme/j9 x 1"])
async def test_a_message_that_says_nothing_about_itself_is_kept_and_goes_away(core: Core, header: str) -> None:
    await core.rerank(Script())
    await core.bus.publish(WORK_RERANK, b"\xc1", headers={SHARD: header} if header else None)
    await eventually(lambda: _has(core, 1))
    await eventually(lambda: _work_is_empty(core))


async def test_an_alarm_that_cannot_be_handled_is_kept_and_nobody_arrives(core: Core) -> None:
    await core.rerank(Script())  # has no business with alarms: its hops fail below

    async def broken(group: str, headers: dict[str, str]) -> None:
        raise Poison("no such group")

    worker = core.workers[0]
    object.__setattr__(worker.hops, "expire", broken)
    wake = Task("x/j1/expire", core.tenant, "j1", "", [], [Expire(core.group())], "", 0)
    await core.bus.publish(WORK_RERANK, msgspec.msgpack.encode(wake))
    await eventually(lambda: _has(core, 1))
    await eventually(lambda: _work_is_empty(core))


async def test_one_items_failure_does_not_stop_the_others(core: Core) -> None:
    seen: list[list[int]] = []

    async def second_fails(task: Task, step: Rerank) -> Sequence[Item]:
        seen.append([item.n for item in task.items])
        failure = Failure("unanswerable", "no passage says", "rerank")
        return [msgspec.structs.replace(item, failure=failure if item.n == 1 else None) for item in task.items]

    await core.route()
    await core.rerank(second_fails)
    await core.start_job([Rerank(), Rerank()], [[question(n) for n in range(3)]])
    report = await core.report()
    assert seen == [[0, 1, 2], [0, 2]]  # only the living reach the second step
    assert (report.succeeded, report.failed, report.reasons) == (2, 1, {"unanswerable": 1})
    assert [item.n for item in (await core.shard()).items] == [0, 1, 2]


async def test_a_handler_that_loses_an_item_is_a_fault(core: Core) -> None:
    async def loses(task: Task, step: Rerank) -> Sequence[Item]:
        return task.items[1:]

    await core.route()
    await core.rerank(loses)
    await core.start_job([Rerank()], [[question(0), question(1)]])
    report = await core.report()
    assert [failure.reason for failure in report.failures] == ["rerank: 2 items in, 1 out"] * 2


async def test_a_step_without_a_handler_is_a_fault(core: Core) -> None:
    worker = core.worker(RerankSettings())
    await worker.start()
    await core.start_job([Rerank()], [[question(0)]])
    failure = (await core.shard()).items[0].failure
    assert failure is not None
    assert failure.reason == "rerank has no handler for the step Rerank"


async def test_heartbeats_keep_a_task_that_takes_longer_than_ack_wait(core: Core) -> None:
    calls = 0

    async def slow(task: Task, step: Rerank) -> Sequence[Item]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(2.5)
        return task.items

    await core.route()
    await core.rerank(slow, RerankSettings(ack_wait_s=1))
    await core.start_job([Rerank()], [[question(0)]])
    await core.report()
    await eventually(lambda: _work_is_empty(core))
    assert calls == 1


async def test_a_worker_that_died_over_a_task_does_not_get_it_for_ever(core: Core) -> None:
    """Cancelled in the middle, as a killed process: nothing is settled, the server delivers again."""
    calls = 0

    async def dies(task: Task, step: Rerank) -> Sequence[Item]:
        nonlocal calls
        calls += 1
        raise asyncio.CancelledError

    await core.route()
    await core.rerank(dies, RerankSettings(attempts=2, ack_wait_s=0.3))
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report()
    assert calls == 2 * SILENT
    assert report.failures[0].reason.startswith("given up after 4 deliveries: the worker died over it each time")


async def test_cancelled_jobs_go_no_further(core: Core) -> None:
    await core.route()
    script = Script()
    await core.rerank(script)
    core.cancels.add(core.tenant, "j1", "wrong file")
    await core.start_job([Rerank()], [[question(0)]])
    report = await core.report()
    assert (report.state, report.reasons, script.calls) == ("cancelled", {"cancelled": 1}, [])
    assert report.failures[0].reason == "cancelled: wrong file"


async def test_late_items_fail_and_a_late_job_ends_expired(core: Core) -> None:
    await core.route()
    script = Script()
    await core.rerank(script)
    late = msgspec.structs.replace(question(0), deadline=time.time() - 1)
    await core.start_job([Rerank()], [[late, question(1)]], deadline=time.time() + 60)
    one = await core.report()
    assert (one.state, one.succeeded, one.reasons) == ("done", 1, {"deadline_exceeded": 1})
    await core.start_job([Rerank()], [[question(0)]], job="j2", deadline=time.time() - 1)
    two = await core.report("j2")
    assert (two.state, two.reasons) == ("expired", {"deadline_exceeded": 1})
    assert len(script.calls) == 1


async def test_batch_work_does_not_take_the_places_of_those_who_wait(core: Core) -> None:
    gate = asyncio.Event()

    async def batch_is_slow(task: Task, step: Rerank) -> Sequence[Item]:
        if task.lane == "batch":
            await gate.wait()
        return task.items

    await core.rerank(batch_is_slow, RerankSettings(batch_slots=2, interactive_slots=1, ack_wait_s=5))
    await core.start_job([Rerank()], [[question(n)] for n in range(20)], job="many", lane="batch")
    await core.start_job([Rerank()], [[question(0)]], job="one")
    assert (await core.shard(0, "one")).items[0].failure is None
    gate.set()
    await core.shard(19, "many")


async def test_a_task_above_512_kb_travels_by_claim(core: Core) -> None:
    sizes: list[int] = []

    async def measure(task: Task, step: Rerank) -> Sequence[Item]:
        sizes.append(len(task.items[0].input.question))
        return task.items

    await core.route()
    await core.rerank(measure)
    await core.start_job([Rerank()], [[question(0, "x" * 700_000)]])
    report = await core.report()
    shard = await core.shard()
    assert (sizes, report.succeeded, len(shard.items[0].question)) == ([700_000], 1, 700_000)
    assert (await core.bus.js.stream_info("OBJ_claims")).state.bytes > 1_400_000  # the task and its result


async def test_a_claim_that_is_gone_is_a_dead_letter(core: Core) -> None:
    await core.route()
    await core.hops.open_group(core.group("j2"), _parked_of_two(core))
    headers = {SHARD: f"{core.group('j2')} 0 0", subjects.CLAIM: "0" * 40}
    await core.bus.publish(WORK_RERANK, b"", headers=headers)
    await core.rerank(Script())
    failure = (await core.shard(0, "j2")).items[0].failure
    assert failure is not None
    assert "no such object in the store 'claims'" in failure.reason


def _parked_of_two(core: Core) -> Parked:
    group = core.group("j2")
    return Parked(Task(group, core.tenant, "j2", "p", [], [Report()], group, 0), 2, "report", items=2, shard_size=1)


async def _has(core: Core, letters: int) -> bool:
    return len(await core.dead()) == letters


async def _work_is_empty(core: Core) -> bool:
    return await core.count(WORK.name) == 0
