"""Kept answers over all services: found again, given to nobody else, and gone when a document changes."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from client.client import Penstock
from client.stack import secrets
from client.stack.config import nats_url
from contracts.events import Hop
from contracts.item import Answer, DocumentRef, Input
from contracts.job import ItemResult, JobReport, Options, TokenDelta
from e2e.running import Running, Script
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

QUESTION = "How many days of vacation do employees get in a year?"
AGAIN = "In a year, how many days of vacation do employees get?"
OTHERS = ("How many days of vacation do managers get in a year?", "How many days of vacation do employees get in 2025?")
MODEL = Options(model="scripted")
NEAR = Options(model="scripted", cache="semantic")


@pytest.fixture
async def acme(stack: Running) -> AsyncIterator[Penstock]:
    async with await connect(stack, "acme") as connection:
        yield connection


@pytest.fixture
async def globex(stack: Running) -> AsyncIterator[Penstock]:
    async with await connect(stack, "globex") as connection:
        yield connection


async def connect(stack: Running, tenant: str) -> Penstock:
    password = secrets.load(stack.data).tenants[tenant]
    return await Penstock.connect(nats_url(stack.info.nats_port, tenant, password), tenant)


async def learn(penstock: Penstock, name: str, text: str) -> JobReport:
    item = Input(document=DocumentRef(name=f"{name}.md", id=name, text=text))
    return await penstock.report(await penstock.submit("ingest", [item], Options()), timeout_s=60)


async def retrieved(penstock: Penstock, job: str) -> list[Hop]:
    """The records of a job, once that of retrieve has come: they are written without waiting."""
    until = time.monotonic() + 10
    while True:
        hops = await penstock.events(job)
        if any(hop.step == "retrieve" for hop in hops):
            return hops
        assert time.monotonic() < until, "no record came"
        await asyncio.sleep(0.05)


def leave(days: int) -> str:
    return f"# Leave\n\nEmployees get {days} days of vacation in a year. Managers get 40 days of vacation in a year."


def said(days: int) -> Reply:
    return Reply(f"Employees get {days} days of vacation in a year.", prompt_tokens=500, completion_tokens=12)


def answer_of(result: ItemResult) -> Answer:
    assert result.failure is None, result.failure
    assert result.answer is not None
    return result.answer


async def test_an_answer_is_kept_until_a_document_changes_what_it_rests_on(acme: Penstock, script: Script) -> None:
    await learn(acme, "leave", leave(25))
    script.when("vacation", said(25), said(30))
    first = await acme.ask(QUESTION, options=MODEL)
    assert answer_of(first).cached is None
    deltas: list[TokenDelta] = []
    second = await acme.ask(f"  {QUESTION} ", options=MODEL, on_delta=deltas.append)
    kept = answer_of(second)
    assert kept.cached is not None
    assert (kept.cached.kind, kept.text, kept.quotes) == ("exact", answer_of(first).text, answer_of(first).quotes)
    assert (second.usage.calls, second.usage.cost_usd, script.calls()) == (0, 0.0, 1)
    assert second.verdict == first.verdict
    assert [(delta.index, delta.text) for delta in deltas] == [(0, kept.text), (1, "")]
    hops = await retrieved(acme, second.job)
    assert [hop.details for hop in hops if hop.step == "retrieve"] == [{"cached": "exact 1"}]
    assert {hop.step for hop in hops} & {"rerank", "render", "generate", "judge"} == set()

    await learn(acme, "leave", leave(30))
    changed = await acme.ask(QUESTION, options=MODEL)
    assert answer_of(changed).cached is None
    assert "30 days" in answer_of(changed).text
    assert answer_of(await acme.ask(QUESTION, options=MODEL)).text == answer_of(changed).text


async def test_a_question_that_says_the_same_gets_the_answer_and_one_that_does_not_gets_its_own(
    acme: Penstock, script: Script
) -> None:
    await learn(acme, "leave", leave(26))
    script.when("vacation", said(26))
    assert answer_of(await acme.ask(QUESTION, options=NEAR)).cached is None
    near = answer_of(await acme.ask(AGAIN, options=NEAR)).cached
    assert near is not None
    assert (near.kind, near.question) == ("semantic", QUESTION)
    assert 0.9 <= near.similarity < 1
    assert answer_of(await acme.ask(AGAIN, options=MODEL)).cached is None  # exact, and not asked before
    for other in OTHERS:
        assert (await acme.ask(other, options=NEAR)).usage.calls == 1


async def test_tenants_with_the_same_documents_and_questions_get_nothing_of_each_other(
    acme: Penstock, globex: Penstock, script: Script
) -> None:
    for tenant in (acme, globex):
        await learn(tenant, "leave", leave(27))
    script.when("vacation", said(27))
    assert answer_of(await acme.ask(QUESTION, options=NEAR)).cached is None
    assert answer_of(await acme.ask(QUESTION, options=NEAR)).cached is not None
    for question in (QUESTION, AGAIN):
        other = await globex.ask(question, options=Options(model="scripted", cache="exact"))
        assert (answer_of(other).cached, other.usage.calls) == (None, 1)
    assert script.calls() == 3


async def test_answers_that_failed_were_refused_or_are_not_to_be_kept_are_made_anew(
    acme: Penstock, script: Script
) -> None:
    await learn(acme, "leave", leave(28))
    script.when("vacation", "The documents do not say.", "Everybody gets 99 days of holidays.", said(28))
    assert answer_of(await acme.ask(QUESTION, options=MODEL)).mode == "refused"
    assert (await acme.ask(QUESTION, options=MODEL)).failure is not None
    off = Options(model="scripted", cache="off")
    for options in (off, off, Options(model="scripted", temperature=0.5), Options(model="scripted", session="s")):
        assert answer_of(await acme.ask(QUESTION, options=options)).cached is None
    assert answer_of(await acme.ask(QUESTION, options=MODEL)).cached is None
    assert answer_of(await acme.ask(QUESTION, options=MODEL)).cached is not None


async def test_a_batch_gets_kept_answers_beside_new_ones(acme: Penstock, script: Script) -> None:
    await learn(acme, "leave", leave(29))
    script.when("vacation", said(29))
    await acme.ask(QUESTION, options=MODEL)
    new = Input(question="Do managers get 40 days of vacation in a year?")
    receipt = await acme.submit("rag", [new, Input(question=QUESTION), Input(question="")], MODEL)
    results = [item async for shard in acme.results(receipt) for item in shard.items]
    by_n = {result.n: result for result in results}
    assert answer_of(by_n[1]).cached is not None
    assert by_n[0].usage.calls == 1
    assert by_n[2].failure is not None
    report = await acme.report(receipt, timeout_s=30)
    assert (report.succeeded + report.failed, report.usage.calls) == (3, 1)
