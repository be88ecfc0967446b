"""self-consistency and best-of-n over all services: many samples, one answer, every call in the report."""

import json
from collections.abc import Sequence

import pytest

from client.client import Penstock
from contracts.item import Input
from contracts.job import ItemResult, JobReport, Options
from e2e.running import Script, rounded, spent
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

CHART = "Admitted with hypertension. Type 2 diabetes without complications. Chest pain was ruled out as cardiac."
CODE_SETS = (["I10", "E11.9"], ["I10"], ["E11.9", "I10"], ["R07.9", "E11.9"], ["I10", "E11.9"], ["I15.0"], ["I10"])
GOOD = (
    "Hi, this is Northgate Health. Your payment of $120 is due. Please pay at https://pay.example/a1. "
    "Questions? Reply HELP. Reply STOP to opt out. Thank you."
)
VARIANTS = (
    "FINAL NOTICE: pay $120 now at https://pay.example/a1 or we sue. Reply STOP to opt out.",  # threat, urgency
    "Hi, your payment of $120 is due. Please pay at https://pay.example/a1. Thank you.",  # no opt-out
    "Hi, your payment of $120 is due. Thank you. Reply STOP to opt out.",  # no link
    GOOD,
    "Your credit score will suffer. Pay $120 at https://pay.example/a1. Reply STOP to opt out.",
)


async def run(penstock: Penstock, pattern: str, items: Sequence[Input], options: Options) -> JobReport:
    return await penstock.report(await penstock.submit(pattern, items, options), timeout_s=90)


async def results(penstock: Penstock, job: str) -> list[ItemResult]:
    found = [item async for shard in penstock.stored_results(job) for item in shard.items]
    return sorted(found, key=lambda item: item.n)


async def test_seven_code_sets_give_the_codes_that_most_of_them_have(penstock: Penstock, script: Script) -> None:
    replies = [Reply(json.dumps({"codes": codes}), prompt_tokens=100, completion_tokens=10) for codes in CODE_SETS]
    script.when("hypertension", *replies)
    options = Options(model="scripted", prompt="icd-codes", vote="codes")
    report = await run(penstock, "self-consistency", [Input(question="Suggest the codes.", context=CHART)], options)
    [result] = await results(penstock, report.job)

    assert result.answer is not None
    assert result.answer.data == {"codes": ["I10", "E11.9"]}
    assert result.verdict is not None
    assert result.verdict.passed
    assert result.verdict.details["I10"] == pytest.approx(5 / 7, abs=0.001)
    assert any("R07.9" in finding for finding in result.verdict.findings)
    assert script.calls() == 7
    assert {call.body["temperature"] for call in script.requests} == {0.7}
    assert rounded(report.usage) == rounded(result.usage) == spent(700, 70, calls=7)


async def test_a_sample_that_fails_has_no_vote_and_the_others_decide(penstock: Penstock, script: Script) -> None:
    codes = json.dumps({"codes": ["I10"]})
    script.when("hypertension", Reply("no", status=400), codes, codes)
    options = Options(model="scripted", prompt="icd-codes", vote="codes", n=3)
    report = await run(penstock, "self-consistency", [Input(question="Codes?", context=CHART)] * 2, options)
    first, second = await results(penstock, report.job)
    assert (report.succeeded, report.failed) == (2, 0)
    for result in (first, second):
        assert result.answer is not None
        assert result.answer.data == {"codes": ["I10"]}
    assert sum("answered 400" in str(result.verdict) for result in (first, second)) == 1
    assert script.calls() == 6
    assert report.usage.calls == 5  # the refused call has used nothing


async def test_without_a_majority_of_valid_samples_the_item_fails(penstock: Penstock, script: Script) -> None:
    script.when("hypertension", "I10, I think.")
    options = Options(model="scripted", prompt="icd-codes", vote="codes", n=3)
    report = await run(penstock, "self-consistency", [Input(question="Codes?", context=CHART)], options)
    assert report.failures[0].code == "invalid_output"
    assert "only 0 of 3 samples are valid" in report.failures[0].reason
    assert report.usage.calls == script.calls() == 6  # each sample and its one repair


async def test_the_compliant_message_of_twelve_is_picked(penstock: Penstock, script: Script) -> None:
    script.when("text messages", Reply(texts=VARIANTS, prompt_tokens=200, completion_tokens=300))
    given = {"company": "Northgate Health", "amount": "$120", "link": "https://pay.example/a1"}
    options = Options(model="scripted", prompt="collections-sms", rubric="collections-sms")
    item = Input(question="Write a friendly reminder.", variables=given)
    report = await run(penstock, "best-of-n", [item], options)
    [result] = await results(penstock, report.job)

    assert result.answer is not None
    assert result.answer.text == GOOD
    assert result.verdict is not None
    assert any("opt_out" in finding for finding in result.verdict.findings)
    assert any("no_threats" in finding for finding in result.verdict.findings)
    assert script.calls() == 1
    assert script.requests[0].body["n"] == 12
    assert rounded(report.usage) == spent(200, 300, calls=1)


async def test_where_no_variant_complies_the_item_fails_and_says_what_each_misses(
    penstock: Penstock, script: Script
) -> None:
    script.when("text messages", Reply(texts=VARIANTS[:1]))
    options = Options(model="scripted", prompt="collections-sms", rubric="collections-sms")
    given = {"company": "Northgate Health", "amount": "$120", "link": "https://pay.example/a1"}
    report = await run(penstock, "best-of-n", [Input(question="Write it.", variables=given)], options)
    assert report.failures[0].code == "invalid_output"
    assert "no_threats" in report.failures[0].reason


async def test_a_variable_that_the_prompt_needs_is_named(penstock: Penstock, script: Script) -> None:
    options = Options(model="scripted", prompt="collections-sms", rubric="collections-sms")
    report = await run(penstock, "best-of-n", [Input(question="Write it.")], options)
    assert report.failures[0].code == "malformed"
    assert "variables: the prompt collections-sms@1 needs one more: 'company'" in report.failures[0].reason
    assert script.calls() == 0
