"""Opening jobs: ids, lanes, deadlines, refusals, repetitions; and asks with their replies."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
import nats.micro
import pytest
from in_process import Core, GenerateSettings, eventually
from nats.errors import TimeoutError as NatsTimeout
from nats.micro.service import ServiceConfig

from contracts import subjects
from contracts.item import Answer, Item
from contracts.job import ItemResult, JobOpened, JobReport
from contracts.steps import AnyStep, Generate, Render
from contracts.subjects import CLAIM, JOBS, MSG_ID, REPLY, RESULTS, WORK
from contracts.task import Task
from services.route.adapters.asks import Asks
from services.route.adapters.opener import Opener
from services.route.adapters.paces import Paces
from services.route.adapters.windows import Windows
from services.route.config import RouteSettings
from services.route.domain.pattern import Pattern, nothing_needed
from services.route.domain.patterns import Patterns, load_patterns
from services.route.domain.prompts import load_prompts
from services.route.domain.submission import Submission
from shared import delivery as delivery_module
from shared.bus import Bus
from shared.errors import Poison, Retryable
from shared.groups import Count, Groups
from shared.hops import Hops
from shared.models import load_catalogue
from shared.pull import Pull

pytestmark = pytest.mark.servers

SETTINGS = RouteSettings(shard_size=2, attempts=2, ack_wait_s=2, interactive_deadline_s=30, batch_deadline_s=600)


def explode(options: object) -> list[AnyStep]:
    raise ZeroDivisionError


@dataclass
class Desk:
    """An opener at work, and what users do."""

    core: Core
    pull: Pull | None = None
    render: Callable[[Task, Render], Awaitable[list[Item]]] = lambda task, step: passes(task)

    def opener(self, hops: Hops | None = None) -> Opener:
        broken = Pattern("broken", "fails by a fault of ours", explode, nothing_needed)
        patterns = Patterns({**load_patterns().by_name, "broken": broken})
        worker = self.core.worker(SETTINGS)
        worker.on(Render, self.render)
        hops = hops or self.core.hops
        windows = Windows(hops, patterns, SETTINGS)
        catalogue, paces = load_catalogue(None), Paces(self.core.redis)
        return Opener(hops, patterns, load_prompts(), catalogue, SETTINGS, worker, paces, windows)

    async def start(self, hops: Hops | None = None) -> None:
        self.pull = await self.opener(hops).pull()

    async def submit(self, payload: bytes, pattern: str = "noop", headers: Mapping[str, str] | None = None) -> int:
        """Publish as any client does; the sequence is the receipt."""
        subject = subjects.jobs(self.core.tenant, pattern)
        return (await self.core.bus.js.publish(subject, payload, headers=dict(headers) if headers else None)).seq

    async def opened(self, job: str) -> JobOpened:
        return msgspec.json.decode(
            await self.core.wait_for(subjects.result(self.core.tenant, job, "open")), type=JobOpened
        )

    async def rejected(self, payload: bytes, pattern: str = "noop", headers: Mapping[str, str] | None = None) -> str:
        """Submit, and return the refusal under the sequence."""
        report = await self.core.report(str(await self.submit(payload, pattern, headers)))
        assert (report.state, report.size) == ("rejected", 0)
        return report.error

    async def tasks(self) -> list[Task]:
        found = await self.core.messages(WORK.name, "work.generate.noop.*")
        return sorted((msgspec.msgpack.decode(data, type=Task) for data in found), key=lambda task: task.index)

    async def only_task(self) -> Task:
        """The one that the opening of a job has left in WORK."""
        await eventually(lambda: _no_submissions(self))
        places = ("work.*.*", "work.generate.*.*")
        (data,) = [data for place in places for data in await self.core.messages(WORK.name, place)]
        return msgspec.msgpack.decode(data, type=Task)

    async def work(self) -> None:
        """Somebody answers, and route gathers."""

        async def answer(task: Task, step: Generate) -> list[Item]:
            return [msgspec.structs.replace(item, answer=Answer(item.question.upper())) for item in task.items]

        worker = self.core.worker(GenerateSettings(ack_wait_s=2))
        worker.on(Generate, answer)
        await worker.start()
        await self.core.route()


async def passes(task: Task) -> list[Item]:
    return task.items


@pytest.fixture
async def desk(core: Core, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(delivery_module, "_BACKOFF_S", 0.2)
    found = Desk(core)
    yield found
    if found.pull is not None:
        await found.pull.drain(1)


ITEM = b'{"items":[{"question":"a"}]}'


async def test_the_id_is_the_payloads_else_the_message_id_else_the_sequence(desk: Desk) -> None:
    await desk.start()
    ids = {MSG_ID: f"msg-{desk.core.tenant}"}
    first = await desk.submit(b'{"job":"mine","items":[{}]}', headers=ids)
    second = await desk.submit(ITEM, headers={MSG_ID: f"m2-{desk.core.tenant}"})
    third = await desk.submit(ITEM)
    assert (await desk.opened("mine")).sequence == first
    assert (await desk.opened(f"m2-{desk.core.tenant}")).sequence == second
    opened = await desk.opened(str(third))
    assert (opened.sequence, opened.size, opened.shards, opened.pattern) == (third, 1, 1, "noop")
    await eventually(lambda: _no_submissions(desk))


async def test_a_repeated_message_id_is_one_job(desk: Desk) -> None:
    ids = {MSG_ID: f"msg-{desk.core.tenant}"}
    assert await desk.submit(ITEM, headers=ids) == await desk.submit(ITEM, headers=ids)
    await desk.start()
    await desk.opened(ids[MSG_ID])
    await eventually(lambda: _no_submissions(desk))
    assert len(await desk.tasks()) == 1


@pytest.mark.parametrize("given", ["a b", "a.b", "*", "x" * 65, "a\\n", "ä", "123"])
async def test_an_id_that_is_none_is_refused_under_the_sequence(desk: Desk, given: str) -> None:
    await desk.start()
    error = await desk.rejected(b'{"job":"%s","items":[{}]}' % given.encode())
    assert error.startswith("job: expected ")


async def test_a_message_id_that_is_no_id_is_refused_naming_the_header(desk: Desk) -> None:
    await desk.start()
    assert (await desk.rejected(ITEM, headers={MSG_ID: f"not ours {desk.core.tenant}"})).startswith("Nats-Msg-Id: ")


async def test_an_id_in_use_is_refused_and_its_owner_goes_on(desk: Desk) -> None:
    await desk.start()
    await desk.submit(b'{"job":"mine","items":[{"question":"first"}]}')
    await desk.opened("mine")
    error = await desk.rejected(b'{"job":"mine","items":[{"question":"second"}]}')
    assert error == "job: the id 'mine' is in use by an earlier submission; choose another one"
    await desk.work()
    assert (await desk.core.report("mine")).succeeded == 1
    assert (await desk.core.shard(0, "mine")).items[0].question == "first"


async def test_a_refusal_leaves_the_report_of_a_running_job_alone(desk: Desk) -> None:
    await desk.start()
    await desk.submit(b'{"job":"mine","items":[{"question":"first"}]}')
    await desk.opened("mine")
    assert "unknown field" in await desk.rejected(b'{"job":"mine","itmes":[]}')
    await desk.work()
    assert (await desk.core.report("mine")).state == "done"


async def test_a_refused_id_can_be_used_again_and_the_last_refusal_counts(desk: Desk) -> None:
    await desk.start()
    await desk.submit(b'{"job":"mine","items":[]}')
    assert "at least one" in (await desk.core.report("mine")).error
    await desk.submit(b'{"job":"mine","items":7}')
    await eventually(lambda: _no_submissions(desk))
    assert "expected array" in (await desk.core.report("mine")).error
    await desk.submit(b'{"job":"mine","items":[{"question":"right"}]}')
    await desk.opened("mine")
    await desk.work()

    async def is_done() -> bool:
        message = await desk.core.bus.last(RESULTS, subjects.result(desk.core.tenant, "mine", "done"))
        return message is not None and msgspec.json.decode(message.data or b"", type=JobReport).state == "done"

    await eventually(is_done)
    assert len(await desk.core.messages(RESULTS.name, subjects.result(desk.core.tenant, "mine", "done"))) == 1


async def test_the_prompt_of_one_who_waits_is_rendered_while_the_job_is_opened(desk: Desk) -> None:
    await desk.start()
    await desk.submit(ITEM, "direct")
    task = await desk.only_task()
    assert (type(task.steps[0]), task.hop, task.index) == (Generate, 1, 0)


async def test_the_prompts_of_a_batch_are_left_to_workers(desk: Desk) -> None:
    await desk.start()
    await desk.submit(b'{"lane":"batch","items":[{"question":"a"}]}', "direct")
    task = await desk.only_task()
    assert (type(task.steps[0]), task.hop) == (Render, 0)


@pytest.mark.parametrize("error", [Poison("no such prompt"), RuntimeError("a fault of ours")])
async def test_a_prompt_that_cannot_be_rendered_at_once_is_left_to_a_worker(desk: Desk, error: Exception) -> None:
    async def fail(task: Task, step: Render) -> list[Item]:
        raise error

    desk.render = fail
    await desk.start()
    await desk.submit(ITEM, "direct")
    task = await desk.only_task()
    assert (type(task.steps[0]), task.hop) == (Render, 0)


async def test_a_job_that_was_opened_by_half_is_opened_once(desk: Desk) -> None:
    class FailsAtTheThird(Bus):
        left = 3

        async def publish(
            self, subject: str, payload: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
        ) -> int:
            sequence = await super().publish(subject, payload, msg_id=msg_id, headers=headers)
            if subject.startswith("work.generate"):
                self.left -= 1
                if self.left == 0:
                    raise OSError("the process dies here")
            return sequence

    failing = FailsAtTheThird(desk.core.bus.nc, desk.core.bus.js)
    await desk.start(Hops(failing, desk.core.hops.groups))
    await desk.submit(b'{"job":"mine","items":[%s]}' % b",".join([b'{"question":"q"}'] * 10))
    await eventually(lambda: _no_submissions(desk))
    assert failing.left < 0  # it was tried again
    assert [task.index for task in await desk.tasks()] == [0, 1, 2, 3, 4]
    await desk.work()
    report = await desk.core.report("mine")
    assert (report.succeeded, report.shards) == (10, 5)


async def test_a_late_repetition_of_a_submission_whose_job_has_ended_starts_nothing(desk: Desk) -> None:
    await desk.start()
    sequence = await desk.submit(b'{"job":"mine","items":[{"question":"q"}]}')
    await desk.work()
    report = await desk.core.report("mine")
    await eventually(lambda: _no_work(desk))
    payload = b'{"job":"mine","items":[{"question":"q"}]}'
    again = Submission(desk.core.tenant, "noop", sequence, "", payload, time.time())
    opener = desk.opener()
    assert not await opener._claim(again, (await opener._plan(again)).opening)
    assert await desk.core.hops.parked(desk.core.group("mine")) is None
    assert await desk.core.count(WORK.name) == 0
    assert await desk.core.report("mine") == report


async def test_malformed_items_fail_alone(desk: Desk) -> None:
    await desk.start()
    await desk.work()
    items = [
        b'{"question":"good"}',
        b'{"question":7}',
        b"[]",
        b'{"question":"late","deadline_s":-1}',
        b'{"question":"","id":"empty"}',
    ]
    await desk.submit(b'{"job":"mine","items":[%s]}' % b",".join(items), pattern="noop")
    report = await desk.core.report("mine")
    reasons = {failure.n: failure.reason for failure in report.failures}
    assert report.reasons == {"malformed": 3}
    assert reasons[1] == "items[1].question: expected str, got int"
    assert reasons[2].startswith("items[2]: expected object, got array")
    assert reasons[3] == "items[3].deadline_s: expected more than 0 seconds, got -1.0"
    assert report.succeeded == 2


async def test_one_item_is_interactive_and_more_are_batch_unless_the_job_says_otherwise(desk: Desk) -> None:
    await desk.start()
    now = time.time()
    await desk.submit(b'{"job":"one","items":[{}],"user":"ann"}')
    await desk.submit(b'{"job":"two","items":[{},{}]}')
    await desk.submit(b'{"job":"told","items":[{},{}],"lane":"interactive","deadline_s":5}')
    one, two, told = [await desk.opened(job) for job in ("one", "two", "told")]
    await eventually(lambda: _no_submissions(desk))
    lanes = {task.job: task.lane for task in await desk.tasks()}
    assert lanes == {"one": "interactive", "two": "batch", "told": "interactive"}
    assert {task.job: task.user for task in await desk.tasks()} == {"one": "ann", "two": "", "told": ""}
    for opened, seconds in ((one, 30), (two, 600), (told, 5)):
        assert opened.deadline is not None
        assert opened.deadline - opened.submitted_at == pytest.approx(seconds, abs=0.01)
        assert opened.submitted_at == pytest.approx(now, abs=5)
    assert {task.job: task.options.stream for task in await desk.tasks()} == {"one": True, "two": False, "told": False}


async def test_items_may_lie_in_the_object_store_a_line_each_and_broken_lines_fail_alone(desk: Desk) -> None:
    await desk.start()
    await desk.work()
    deep = b'{"x":' + b"[" * 20000
    lines = b'{"question":"a"}\n\n{"broken\r\n\xff\n  \n{"question":"b"}\n' + deep
    claim = await desk.core.bus.put_claim(lines)
    await desk.submit(b'{"job":"mine","items_claim":"%s"}' % claim.encode())
    report = await desk.core.report("mine")
    assert (report.size, report.succeeded) == (5, 2)
    assert [failure.n for failure in report.failures] == [1, 2, 4]
    assert report.failures[2].reason == "items[4]: nested too deeply"
    assert report.failures[0].reason.startswith("items[1]: not valid JSON: ")
    assert report.failures[1].reason.startswith("items[2]: not ")


async def test_a_submission_above_512_kb_may_come_by_claim_as_a_whole(desk: Desk) -> None:
    await desk.start()
    claim = await desk.core.bus.put_claim(b'{"job":"mine","items":[{"question":"%s"}]}' % (b"x" * 600_000))
    await desk.submit(b"", headers={CLAIM: claim})
    assert (await desk.opened("mine")).size == 1


async def test_a_users_reply_header_and_bucket_are_not_believed(desk: Desk) -> None:
    await desk.start()
    heard = await desk.core.bus.nc.subscribe("anybodys.subject")
    payload = b'{"job":"forged","items":[{"question":"q"}]}'
    await desk.submit(payload, pattern="nonsense", headers={REPLY: "anybodys.subject"})
    await desk.core.wait_for(subjects.result(desk.core.tenant, "forged", "done"))
    with pytest.raises(NatsTimeout):
        await heard.next_msg(timeout=0.3)
    ask = subjects.asked(desk.core.tenant, "nonsense")  # where route publishes, it is
    await desk.core.bus.publish(ask, payload.replace(b"forged", b"asked"), headers={REPLY: "anybodys.subject"})
    assert (await heard.next_msg(timeout=8)).headers is not None


@pytest.mark.parametrize(
    ("payload", "pattern", "error"),
    [
        (b"", "noop", "job: expected object, got null"),
        (b'{"items":', "noop", "job: not valid JSON: input data was truncated"),
        (b"nonsense", "noop", "job: not valid JSON: "),
        (b'{"items":[{}],"lane":"fast"}', "noop", "job.lane: invalid enum value 'fast'"),
        (b'{"items":[{}],"itmes":[]}', "noop", "job: object contains unknown field itmes"),
        (b'{"items":[{}],"options":{"passages":"5"}}', "noop", "job.options.passages: expected int, got str"),
        (b'{"items":[{}],"options":{"passages":0}}', "noop", "options.passages: expected 1 to 50, got 0"),
        (b'{"items":[{}],"options":{"model":"gpt-0"}}', "noop", "options.model: "),
        (b'{"items":[{}],"options":{"prompt":"none"}}', "rag", "options.prompt: "),
        (b'{"items":[]}', "noop", "items: expected at least one item, got none"),
        (b'{"items":[{}],"items_claim":"x"}', "noop", "items_claim: expected either items or items_claim, got both"),
        (b'{"items_claim":"gone"}', "noop", "items_claim: claim gone: no such object in the store 'claims'"),
        (b'{"items":[{}],"user":"a b"}', "noop", "user: expected 1 to 64 letters, digits, - and _, got 'a b'"),
        (b'{"items":[{}],"deadline_s":0}', "noop", "deadline_s: expected more than 0 seconds, got 0.0"),
        (ITEM, "nope", "no such pattern 'nope'; known are "),
        (b'{"items":[{"question":"\xff"}], "job": "\xff"}', "noop", "job: not UTF-8"),
        (b'{"options":{"schema":{"a":' + b"[" * 20000, "noop", "job: nested too deeply"),
        (ITEM, "broken", "job: internal error while opening it"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_reason(desk: Desk, payload: bytes, pattern: str, error: str) -> None:
    await desk.start()
    found = await desk.rejected(payload, pattern)
    assert found.startswith(error)
    assert "\n" not in found
    await eventually(lambda: _no_submissions(desk))
    assert await desk.tasks() == []


async def test_a_redis_that_is_away_for_long_does_not_cost_a_job(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_BACKOFF_MAX_S", 0.12)

    class Away(Groups):
        left = SETTINGS.attempts + 2

        async def open(self, group: str, size: int, mark: int = 0) -> Count:
            self.left -= 1
            if self.left > 0:
                raise Retryable("Redis does not answer")
            return await super().open(group, size, mark)

    await desk.start(Hops(desk.core.bus, Away(desk.core.redis)))
    await desk.submit(b'{"job":"mine","items":[{"question":"q"}]}')
    await desk.work()
    assert (await desk.core.report("mine")).succeeded == 1


class TestAsks:
    """NATS request on `ask.<tenant>.<pattern>`."""

    @pytest.fixture
    async def asks(self, desk: Desk) -> Desk:
        await desk.start()
        await desk.work()
        micro = await nats.micro.add_service(desk.core.bus.nc, ServiceConfig(name="penstock-route", version="0.1.0"))
        await Asks(desk.core.bus).announce(micro)
        await desk.core.bus.nc.flush()
        return desk

    async def ask(self, desk: Desk, payload: bytes) -> tuple[ItemResult, dict[str, str]]:
        reply = await desk.core.bus.nc.request(f"ask.{desk.core.tenant}.noop", payload, timeout=8)
        return msgspec.json.decode(reply.data, type=ItemResult), dict(reply.headers or {})

    @pytest.mark.parametrize("payload", [b'{"question":"why"}', b'{"items":[{"question":"why"}],"job":"mine"}'])
    async def test_the_answer_is_the_reply(self, asks: Desk, payload: bytes) -> None:
        result, headers = await self.ask(asks, payload)
        assert result.answer == Answer("WHY")
        assert "Nats-Service-Error" not in headers
        assert (await asks.core.report(result.job)).succeeded == 1  # it is stored as well

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"why", "ask: not valid JSON: "),
            (b"", "ask: not valid JSON: input data was truncated"),
            (b"[]", "ask: expected object, got array"),
            (b'{"x":' + b"[" * 20000, "ask: n"),
            (b'{"items":[]}', "items: an ask takes exactly one item, got 0"),
            (b'{"items":[{},{}]}', "items: an ask takes exactly one item, got 2"),
            (b'{"question":7}', "items[0].question: expected str, got int"),
            (b'{"items":[{}],"lane":"fast"}', "job.lane: invalid enum value"),
            (b'{"items_claim":"gone"}', "items_claim: claim gone: no such object"),
        ],
    )
    async def test_what_is_wrong_is_said_in_the_reply(self, asks: Desk, payload: bytes, reason: str) -> None:
        result, headers = await self.ask(asks, payload)
        assert result.failure is not None
        assert (result.failure.code, result.failure.service) == ("malformed", "route")
        assert result.failure.reason.startswith(reason)
        assert headers["Nats-Service-Error-Code"] == "422"

    async def test_an_ask_that_was_published_without_a_reply_is_dropped_where_it_is_wrong(self, asks: Desk) -> None:
        await asks.core.bus.nc.publish(f"ask.{asks.core.tenant}.noop", b"nonsense")
        result, _ = await self.ask(asks, b'{"question":"still there"}')
        assert result.answer == Answer("STILL THERE")

    async def test_discovery_shows_the_endpoint(self, asks: Desk) -> None:
        info = await asks.core.bus.nc.request("$SRV.INFO.penstock-route", b"", timeout=2)
        assert b'"ask.*.*"' in info.data


async def _no_submissions(desk: Desk) -> bool:
    return await desk.core.count(JOBS.name) == 0


async def _no_work(desk: Desk) -> bool:
    return await desk.core.count(WORK.name) == 0
