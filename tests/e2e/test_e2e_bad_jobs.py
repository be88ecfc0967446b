"""Submissions that cannot be: each answer names the field and what was expected, and other jobs go on."""

import json
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
import pytest

from client.client import Penstock
from client.errors import JobIdInUse, JobRejected, UsageError
from contracts.item import Input
from contracts.job import ItemResult, JobReport, Options, ShardResult
from e2e.running import Running, Script
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

T = TypeVar("T")

JOB = {"items": [{"question": "Is all well?"}]}


@pytest.fixture(autouse=True)
async def others_go_on(penstock: Penstock, stack: Running) -> AsyncIterator[None]:
    """Whatever a test sends: afterwards another job is answered, and no service has had an error of its own."""
    yield
    result = await penstock.ask("Is all well?", "noop", timeout_s=30)
    assert result.answer is not None
    assert "Traceback" not in stack.log("route")


async def publish(penstock: Penstock, payload: bytes, subject: str = "jobs.default.noop", msg_id: str = "") -> int:
    headers = {"Nats-Msg-Id": msg_id} if msg_id else None
    return (await penstock.bus.js.publish(subject, payload, headers=headers)).seq


async def report_of(penstock: Penstock, payload: bytes, subject: str = "jobs.default.noop") -> JobReport:
    """The report where a user without an id of their own looks: under the sequence of the receipt."""
    sequence = await publish(penstock, payload, subject)
    return await first_of(penstock, f"results.default.{sequence}.done", JobReport)


async def first_of(penstock: Penstock, subject: str, form: type[T]) -> T:
    """The first message of a subject of RESULTS, which may be yet to come."""
    subscription = await penstock.bus.js.subscribe(subject, ordered_consumer=True)
    message = await subscription.next_msg(timeout=30)
    await subscription.unsubscribe()
    return msgspec.json.decode(message.data, type=form)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "job: expected object, got null"),
        (b"{", "job: not valid JSON: input data was truncated"),
        (b'{"items":[{"question":"a"}],}', "job: not valid JSON: "),
        (b"\xff\xfe{}", "job: not valid JSON: "),
        (b'{"items":[],"job":"Caf\xe9"}', "job: not UTF-8: the byte 0xe9 after 'Caf' begins no character"),
        (b"[]", "job: expected object, got array"),
        (b"{}", "items: expected at least one item, got none"),
        (b'{"items":[]}', "items: expected at least one item, got none"),
        (b'{"items":{"question":"a"}}', "items: expected array, got object"),
        (b'{"itemz":[{"question":"a"}]}', "job: object contains unknown field itemz"),
        (b'{"items":[{}],"job":"a.b"}', "job: expected 1 to 64 letters, digits, - and _, got 'a.b'"),
        (b'{"items":[{}],"job":7}', "job: expected str, got int"),
        (b'{"items":[{}],"lane":"fast"}', "lane: invalid enum value 'fast'"),
        (b'{"items":[{}],"deadline_s":0}', "deadline_s: expected more than 0 seconds, got 0"),
        (b'{"items":[{}],"options":{"modle":"x"}}', "options: object contains unknown field modle"),
        (b'{"items":[{}],"options":{"n":"7"}}', "options.n: expected int, got str"),
        (b'{"items":[{}],"options":{"n":1000}}', "options.n: expected 0 to 64, got 1000"),
        (b'{"items":[{}],"options":{"model":"gpt-9"}}', "options.model: no such model 'gpt-9'; known are extractive, "),
        (b'{"items":[{}],"options":{"schema":{"type":7}}}', "options.schema: not a JSON Schema: "),
        (b'{"items_claim":"nothing"}', "claim nothing: no such object in the store"),
        (b'{"items":[{}],"items_claim":"a"}', "items_claim: expected either items or items_claim, got both"),
    ],
)
async def test_a_job_that_cannot_be_is_rejected_with_the_field_and_what_was_expected(
    penstock: Penstock, payload: bytes, reason: str
) -> None:
    report = await report_of(penstock, payload)
    assert report.state == "rejected"
    assert reason in report.error
    assert (report.size, report.succeeded, report.failed) == (0, 0, 0)


async def test_an_unknown_pattern_is_rejected_with_the_known_ones(penstock: Penstock) -> None:
    report = await report_of(penstock, json.dumps(JOB).encode(), "jobs.default.ragg")
    assert report.state == "rejected"
    assert report.error.startswith("no such pattern 'ragg'; known are ")
    with pytest.raises(JobRejected, match="no such pattern 'ragg'"):
        await penstock.ask("Is all well?", "ragg")


async def test_an_unknown_prompt_is_rejected_with_the_known_ones(penstock: Penstock) -> None:
    with pytest.raises(JobRejected, match=r"options\.prompt: .*'nope'.*dispute"):
        await penstock.ask("Is all well?", "direct", options=Options(prompt="nope"))


async def test_bad_items_fail_alone_and_say_which_field(penstock: Penstock) -> None:
    items = [
        b'{"question": 7}', b'{"question": ""}', b"{", b"[1]", b'{"question": "a", "deadline_s": -1}',
        b'{"id": "no question"}', b'{"question": "a", "filters": {"x": 1}}', b'{"question": "\xff"}',
        b'{"question": "fine"}',
    ]  # fmt: skip
    receipt = await penstock.submit("direct", items)
    report = await penstock.report(receipt, timeout_s=30)
    reasons = {failure.n: failure.reason for failure in report.failures}
    assert {failure.code for failure in report.failures if failure.n < 8} == {"malformed"}
    assert reasons[0] == "items[0].question: expected str, got int"
    assert reasons[1] == "items[1].question: expected 1 to 32768 characters, got 0"
    assert "items[2]: not valid JSON" in reasons[2]
    assert "items[3]: expected object, got array" in reasons[3]
    assert "items[4].deadline_s: expected more than 0 seconds, got -1" in reasons[4]
    assert "items[5].question: expected 1 to 32768 characters, got 0" in reasons[5]
    assert "items[6].filters" in reasons[6]
    assert "items[7]: not UTF-8" in reasons[7]


async def test_a_megabyte_of_text_in_a_question_is_refused_for_that_item(penstock: Penstock) -> None:
    with_text = Input(question="x" * (1 << 20), id="big")
    receipt = await penstock.submit("noop", [with_text])
    assert (await penstock.report(receipt, timeout_s=30)).succeeded == 1  # noop takes any input: it travels by claim
    report = await penstock.report(await penstock.submit("rag", [with_text, Input(question=" ")]), timeout_s=30)
    assert [failure.reason for failure in report.failures] == [
        "items[0].question: expected 1 to 32768 characters, got 1048576",
        "items[1].question: expected 1 to 32768 characters, got nothing but white space",
    ]
    direct = await report_of(penstock, msgspec.json.encode({"items": [with_text]}), "jobs.default.direct")
    assert direct.failures[0].reason == "items[0].question: expected 1 to 32768 characters, got 1048576"


async def test_a_submission_that_is_sent_twice_is_one_job(penstock: Penstock) -> None:
    payload = json.dumps(JOB).encode()
    headers = {"Nats-Msg-Id": "sent-twice"}
    first = await penstock.bus.js.publish("jobs.default.noop", payload, headers=headers)
    second = await penstock.bus.js.publish("jobs.default.noop", payload, headers=headers)
    assert not first.duplicate
    assert second.duplicate
    assert second.seq == first.seq
    report = await penstock.report("sent-twice", timeout_s=30)
    assert (report.job, report.succeeded) == ("sent-twice", 1)
    assert len([shard async for shard in penstock.results("sent-twice")]) == 1
    assert await penstock.find_report(str(first.seq)) is None  # nothing is said of it anywhere else


async def test_a_job_id_that_is_in_use_is_rejected_under_the_sequence_of_the_second_submission(
    penstock: Penstock,
) -> None:
    first = json.dumps(JOB | {"job": "taken"}).encode()
    second = json.dumps({"items": [{"question": "Something else"}], "job": "taken"}).encode()
    await publish(penstock, first)
    report = await penstock.report("taken", timeout_s=30)
    sequence = await publish(penstock, second)
    rejected = await first_of(penstock, f"results.default.{sequence}.done", JobReport)
    assert rejected.state == "rejected"
    assert rejected.error == "job: the id 'taken' is in use by an earlier submission; choose another one"
    assert await penstock.find_report("taken") == report


async def test_a_job_id_in_use_is_said_to_the_client_even_where_that_job_has_results(penstock: Penstock) -> None:
    await publish(penstock, json.dumps(JOB | {"job": "also-taken"}).encode())
    await penstock.report("also-taken", timeout_s=30)
    receipt = await penstock.submit("noop", [Input(question="b")], job="also-taken")
    with pytest.raises(JobIdInUse, match="the id 'also-taken' is in use"):
        async for _ in penstock.results(receipt):
            pass
    with pytest.raises(JobIdInUse, match="the id 'also-taken' is in use"):
        await penstock.report(receipt, timeout_s=30)


async def test_a_rejection_does_not_use_the_id_up(penstock: Penstock) -> None:
    await publish(penstock, b'{"items":[],"job":"second-try"}')
    with pytest.raises(JobRejected, match="at least one item"):
        await penstock.report("second-try", timeout_s=30)
    await publish(penstock, json.dumps(JOB | {"job": "second-try"}).encode())
    shard = await first_of(penstock, "results.default.second-try.0", ShardResult)
    assert shard.items[0].failure is None
    assert (await penstock.report("second-try", timeout_s=30)).succeeded == 1


async def test_a_bad_submission_under_the_id_of_a_running_job_leaves_it_alone(
    penstock: Penstock, script: Script
) -> None:
    script.when("slow", Reply("Fine.", delay_s=1))
    receipt = await penstock.submit("direct", [Input(question="slow")], Options(model="scripted"), job="at-work")
    await script.until(lambda script: script.calls() == 1)
    rejected = await report_of(penstock, b'{"items":[],"job":"at-work"}')
    assert (rejected.state, rejected.error) == ("rejected", "items: expected at least one item, got none")
    assert (await penstock.report(receipt, timeout_s=30)).succeeded == 1


async def test_ids_that_are_no_words_are_refused_before_anything_is_sent(penstock: Penstock) -> None:
    with pytest.raises(UsageError, match=r"job: expected 1 to 64 letters, digits, - and _, got 'a b'"):
        await penstock.submit("noop", [Input()], job="a b")
    with pytest.raises(UsageError, match="pattern: expected 1 to 64"):
        await penstock.ask("a", "no.op")


@pytest.mark.parametrize(
    ("pattern", "options", "reason"),
    [
        ("best-of-n", Options(model="scripted"), "options.rubric: "),
        ("rag", Options(session="a b"), "options.session: expected 1 to 64 letters, digits, - and _, got 'a b'"),
        ("reflect", Options(model="scripted", prompt="nope"), "options.prompt: "),
    ],
)
async def test_options_that_a_pattern_cannot_work_with_are_named_before_a_model_is_paid(
    penstock: Penstock, script: Script, pattern: str, options: Options, reason: str
) -> None:
    script.when("Why", "Because.")
    try:
        result = await penstock.ask("Why?", pattern, options=options)
        said = result.failure.reason if result.failure else ""
    except JobRejected as error:
        said = str(error)
    assert said.startswith(reason)
    assert script.calls() == 0


async def test_an_answer_that_is_too_large_for_a_reply_is_said_to_be_in_the_results(penstock: Penstock) -> None:
    """A NATS request gets its answer in one message; the embedded server takes 8 MB."""
    payload = msgspec.json.encode({"question": "x" * (5 << 20)})
    reply = await penstock.nc.request("ask.default.noop", payload, timeout=30)
    result = msgspec.json.decode(reply.data, type=ItemResult)
    assert result.failure is not None
    assert result.failure.code == "too_large"
    assert f"results.default.{result.job}.0" in result.failure.reason
    assert (await penstock.report(result.job, timeout_s=30)).succeeded == 1
