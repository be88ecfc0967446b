"""reflect over all services: drafts, critiques, decisions that send the items of one shard different ways."""

import json

import pytest

from client.client import Penstock
from contracts.item import Input
from contracts.job import ItemResult, Options
from e2e.running import Script, rounded, spent
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

VENDOR = Options(model="scripted", prompt="vendor-risk")
PASSED = json.dumps({"passed": True, "findings": []})
DRAFT = "The vendor will certainly fix control CC6.1."
REVISED = "Section IV, CC6.1 reports two late removals of access. We have asked the vendor for evidence."


def finding(text: str) -> str:
    return json.dumps({"passed": False, "findings": [text]})


def tell(script: Script, topic: str, *critiques: str | Reply, revised: str = REVISED, draft: str = DRAFT) -> None:
    """What the model says of one topic: critiques in turn, revisions always, and the draft."""
    script.when(rf"You review replies.*{topic}", *critiques)
    script.when(rf"You revise replies.*{topic}", Reply(revised, prompt_tokens=30, completion_tokens=3))
    script.when(rf"You draft replies.*{topic}", Reply(draft, prompt_tokens=10, completion_tokens=1))


def charged(text: str) -> Reply:
    return Reply(text, prompt_tokens=20, completion_tokens=2)


async def items_of(penstock: Penstock, job: str) -> list[ItemResult]:
    found = [item async for shard in penstock.stored_results(job) for item in shard.items]
    return sorted(found, key=lambda item: item.n)


async def test_a_draft_that_the_critique_turns_down_is_revised_and_passes(penstock: Penstock, script: Script) -> None:
    tell(script, "late removals", charged(finding("Promise: “will certainly fix”; remove it.")), charged(PASSED))
    result = await penstock.ask("Reply about the late removals of access.", "reflect", options=VENDOR)
    assert result.answer is not None
    assert result.answer.text == REVISED
    assert result.answer.prompt.startswith("vendor-risk-revise@")
    assert result.verdict is not None
    assert result.verdict.passed
    assert [call.body["messages"][0]["content"][:25] for call in script.requests] == [
        "You are a vendor risk ana",
        "You review replies about ",
        "You are a vendor risk ana",
        "You review replies about ",
    ]
    assert "will certainly fix" in script.requests[2].last  # the draft and its finding go into the revision
    assert rounded(result.usage) == spent(80, 8, calls=4)


async def test_items_of_one_shard_go_different_ways_and_come_back_in_order(penstock: Penstock, script: Script) -> None:
    tell(script, "alpha", PASSED, draft="Alpha stands.")
    tell(script, "beta", finding("a"), PASSED, revised="Beta, revised once.")
    tell(script, "gamma", finding("a"), finding("b"), PASSED, revised="Gamma, revised twice.")
    tell(script, "delta", finding("still bad"), revised="Delta, never good.")
    tell(script, "epsilon", Reply("no", status=400))
    topics = ("alpha", "beta", "gamma", "delta", "epsilon", "alpha")
    items = [Input(question=f"Reply about {topic}.", id=topic) for topic in topics]
    report = await penstock.report(await penstock.submit("reflect", items, VENDOR), timeout_s=90)
    found = await items_of(penstock, report.job)

    assert (report.succeeded, report.failed) == (5, 1)
    assert [item.id for item in found] == list(topics)
    assert [item.answer.text if item.answer else item.failure.code if item.failure else "" for item in found] == [
        "Alpha stands.", "Beta, revised once.", "Gamma, revised twice.", "Delta, never good.", "upstream",
        "Alpha stands.",
    ]  # fmt: skip
    assert [item.verdict.passed if item.verdict else None for item in found] == [True, True, True, False, None, True]
    assert found[3].verdict is not None
    assert found[3].verdict.findings == ["still bad"]
    assert [item.usage.calls for item in found] == [2, 4, 6, 6, 1, 2]
    assert report.usage.calls == script.calls() - 1 == 21  # the refused call of epsilon has used nothing
