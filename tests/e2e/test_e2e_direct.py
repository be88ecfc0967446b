"""direct over all services: the dispute prompt, its validated JSON, one repair, and no second one."""

import json

import pytest

from client.client import Penstock
from contracts.item import Input
from contracts.job import Options
from e2e.running import Script, rounded, spent
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

DISPUTE = Options(model="scripted", prompt="dispute")
MESSAGE = "On May 3 I was charged $49.90 by a shop that I do not know."
FITTING = {
    "missing_fields": ["transaction_id", "last4"],
    "next_questions": ["What is the transaction id?", "What are the last four digits of the card?"],
    "draft_reply": "Thank you for writing. Please send us the transaction id and the last four digits of your card.",
}
NOT_FITTING = {"missing_fields": "transaction_id", "next_questions": [], "draft_reply": "Hello"}


async def test_a_dispute_gets_validated_json(penstock: Penstock, script: Script) -> None:
    script.when("do not know", json.dumps(FITTING))
    result = await penstock.ask(MESSAGE, "direct", options=DISPUTE)
    assert result.answer is not None
    assert result.answer.data == FITTING
    assert result.answer.prompt.startswith("dispute@")
    sent = script.requests[0].body
    assert sent["response_format"]["json_schema"]["schema"]["required"] == [*FITTING]
    assert "transaction_id, last4, date, amount" in script.requests[0].last


async def test_output_that_does_not_fit_is_repaired_once_and_both_calls_are_charged(
    penstock: Penstock, script: Script
) -> None:
    script.when(
        "do not know",
        Reply(json.dumps(NOT_FITTING), prompt_tokens=100, completion_tokens=10),
        Reply(json.dumps(FITTING), prompt_tokens=150, completion_tokens=40),
    )
    result = await penstock.ask(MESSAGE, "direct", options=DISPUTE)
    assert result.answer is not None
    assert result.answer.data == FITTING
    assert script.calls() == 2
    assert [message["role"] for message in script.requests[1].body["messages"][-2:]] == ["assistant", "user"]
    assert "$.missing_fields: expected array" in script.requests[1].last
    assert rounded(result.usage) == spent(250, 50, calls=2)


async def test_output_that_does_not_fit_twice_fails_with_the_place_and_what_was_expected(
    penstock: Penstock, script: Script
) -> None:
    script.when("do not know", json.dumps(NOT_FITTING))
    result = await penstock.ask(MESSAGE, "direct", options=DISPUTE)
    assert result.failure is not None
    assert (result.failure.code, result.failure.service) == ("invalid_output", "generate")
    assert '$.missing_fields: expected array, got "transaction_id"' in result.failure.reason
    assert (script.calls(), result.usage.calls) == (2, 2)


async def test_one_item_fails_for_good_and_the_others_of_its_shard_succeed(penstock: Penstock, script: Script) -> None:
    script.when("number 2", Reply("no such thing", status=400))
    script.when("number", Reply("Fine.", prompt_tokens=10, completion_tokens=2))
    items = [Input(question=f"number {n}", id=f"q{n}") for n in range(5)]
    receipt = await penstock.submit("direct", items, Options(model="scripted"))
    report = await penstock.report(receipt, timeout_s=60)
    assert (report.state, report.succeeded, report.failed) == ("done", 4, 1)
    assert [(failure.n, failure.id, failure.code) for failure in report.failures] == [(2, "q2", "upstream")]
    assert "answered 400: no such thing" in report.failures[0].reason
    assert rounded(report.usage) == spent(40, 8, calls=4)


async def test_an_endpoint_that_refuses_for_a_while_is_asked_again_for_the_missing_ones_only(
    penstock: Penstock, script: Script
) -> None:
    script.when("slow one", Reply("busy", status=429, headers={"Retry-After": "0"}), Reply("busy", status=503), "Fine.")
    script.when("quick one", "Fine.")
    items = [Input(question="the slow one"), Input(question="the quick one")]
    report = await penstock.report(await penstock.submit("direct", items, Options(model="scripted")), timeout_s=60)
    assert (report.succeeded, report.failed) == (2, 0)
    assert script.calls("quick one") == 1  # paid once, although its shard came back twice
    assert script.calls("slow one") == 3
