"""map-reduce over all services: a real contract, summaries of its sections, a summary of these, and a question."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from client.client import Penstock
from contracts.item import DocumentRef, Input
from contracts.job import ItemResult, JobReport, Options
from e2e.running import Script, rounded, spent
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

CONTRACTS = Path(os.environ.get("PENSTOCK_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "contracts"
HOSTING = "Freecook_20180605_S-1_EX-10.3_11233807_EX-10.3_Hosting Agreement.txt"
SUMMARY = "A hosting agreement between a provider and a customer."
TEXT = "\n\n".join(f"# Part {n}\n\n" + f"Clause {n} obliges the tenant to repair item {n}. " * 60 for n in range(1, 5))


def contract(name: str = HOSTING) -> bytes:
    path = CONTRACTS / name
    if not path.is_file():
        pytest.skip(f"no contracts at {CONTRACTS}: set PENSTOCK_TEST_DATA")
    return path.read_bytes()


async def read(penstock: Penstock, items: Sequence[Input], options: Options) -> tuple[JobReport, list[ItemResult]]:
    report = await penstock.report(await penstock.submit("map-reduce", items, options), timeout_s=90)
    found = [item async for shard in penstock.stored_results(report.job) for item in shard.items]
    return report, sorted(found, key=lambda item: item.n)


def tell(script: Script) -> None:
    script.when("You summarise one section", Reply("A section.", prompt_tokens=100, completion_tokens=10))
    script.when("You put the summaries", Reply(SUMMARY, prompt_tokens=50, completion_tokens=20))
    script.when("You answer a question about a long", Reply("30 days [2].", prompt_tokens=60, completion_tokens=5))


@pytest.mark.data
async def test_a_contract_is_summarised_by_section_and_the_question_is_answered(
    penstock: Penstock, script: Script
) -> None:
    tell(script)
    document = DocumentRef(name=HOSTING, claim=await penstock.upload(contract()))
    item = Input(question="What is the notice period?", document=document)
    report, [result] = await read(penstock, [item], Options(model="scripted"))

    assert result.answer is not None
    assert result.answer.text == "30 days [2]."
    sections = script.calls("You summarise one section")
    assert sections >= 2
    assert script.calls("You put the summaries") == 1
    assert script.calls("You answer a question about a long") == 1
    final = script.requests[-1].last
    assert f'<section number="{sections}">' in final
    assert SUMMARY in final
    assert "What is the notice period?" in final
    assert rounded(report.usage) == spent(sections * 100 + 110, sections * 10 + 25, calls=sections + 2)


@pytest.mark.data
async def test_a_contract_with_the_extractive_engine_is_answered_in_its_own_words(penstock: Penstock) -> None:
    text = contract()
    document = DocumentRef(name=HOSTING, claim=await penstock.upload(text))
    item = Input(question="Who may terminate this agreement, and with how much notice?", document=document)
    report, [result] = await read(penstock, [item], Options())
    assert report.succeeded == 1, report.failures
    assert result.answer is not None
    assert result.answer.mode in ("extractive", "refused")
    plain = " ".join(text.decode().split())
    for quote in result.answer.quotes:
        assert " ".join(quote.text.split()) in plain


async def test_without_a_question_the_summary_is_the_answer_and_each_item_has_its_own(
    penstock: Penstock, script: Script
) -> None:
    tell(script)
    long = Input(document=DocumentRef(name="lease.md", text=TEXT), id="long")
    short = Input(context="The tenant pays 900 a month.", question="How much is the rent?", id="short")
    bad = Input(question="Where is it?", id="bad")
    report, found = await read(penstock, [long, short, bad], Options(model="scripted"))
    assert [item.answer.text if item.answer else "" for item in found] == [SUMMARY, "30 days [2].", ""]
    assert [(failure.n, failure.code) for failure in report.failures] == [(2, "malformed")]
    assert "items[2].document: expected a document" in report.failures[0].reason
    sections = script.calls("You summarise one section")
    assert found[0].usage.calls == sections - 1 + 1  # all sections but that of `short`, and the summary
    assert found[1].usage.calls == 3
    assert report.usage.calls == script.calls() == sections + 3


async def test_a_section_that_fails_is_left_out_and_the_rest_is_summarised(penstock: Penstock, script: Script) -> None:
    script.when("You summarise one section.*Clause 2 obliges", Reply("no", status=400))
    tell(script)
    item = Input(document=DocumentRef(name="lease.md", text=TEXT))
    report, [result] = await read(penstock, [item], Options(model="scripted"))
    assert report.succeeded == 1
    assert result.answer is not None
    told = script.requests[-1].last.count("<section number=")
    assert 0 < told == script.calls("You summarise one section") - script.calls("You summarise one.*Clause 2 obliges")
