"""rag over all services, with a language model: grounded, ungrounded, refused, and a follow-up in a session."""

import pytest

from client.client import Penstock
from contracts.job import Options, TokenDelta
from e2e.running import Script, rounded, spent
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("library"), pytest.mark.timeout(300)]

QUESTION = "Does plan HMO-483 cover physiotherapy after ACL surgery?"
GROUNDED = (
    'Yes. "The plan covers physiotherapy after surgery, including reconstruction of the anterior cruciate ligament '
    '(ACL)". Up to 40 visits per surgery are covered within 12 months after the operation.'
)
SCRIPTED = Options(model="scripted")


async def test_an_answer_that_the_passages_support_comes_with_its_clause_and_page(
    penstock: Penstock, script: Script
) -> None:
    script.when("ACL surgery", Reply(GROUNDED, prompt_tokens=1000, cached_tokens=400, completion_tokens=50))
    result = await penstock.ask(QUESTION, options=SCRIPTED)
    assert result.failure is None
    assert result.answer is not None
    assert (result.answer.text, result.answer.mode, result.answer.model) == (GROUNDED, "generated", "scripted")
    assert result.answer.prompt.startswith("rag@")
    assert result.verdict is not None
    assert result.verdict.passed
    assert {(quote.document, quote.clause) for quote in result.answer.quotes} == {("hmo-483", "4.2")}
    assert all(quote.page > 0 for quote in result.answer.quotes)
    assert rounded(result.usage) == spent(1000, 50, calls=1, cached=400)
    assert round(result.usage.cost_usd, 9) == 0.0008
    assert script.calls() == 1


async def test_the_extractive_reader_answers_where_no_model_is_named(penstock: Penstock, script: Script) -> None:
    result = await penstock.ask(QUESTION)
    assert result.answer is not None
    assert result.answer.mode == "extractive"
    assert "ACL" in result.answer.text
    assert "4.2" in {quote.clause for quote in result.answer.quotes}
    assert script.calls() == 0


async def test_a_sentence_that_no_passage_supports_fails_the_item_and_names_the_sentence(
    penstock: Penstock, script: Script
) -> None:
    script.when("ACL surgery", "Up to 95 visits per surgery are covered within 12 months after the operation.")
    result = await penstock.ask(QUESTION, options=SCRIPTED)
    assert result.answer is None
    assert result.failure is not None
    assert (result.failure.code, result.failure.service) == ("ungrounded", "judge")
    assert "Up to 95 visits" in result.failure.reason
    assert result.usage.calls == 1  # what failed has been paid for all the same


async def test_an_ungrounded_answer_is_only_marked_where_the_job_says_so(penstock: Penstock, script: Script) -> None:
    script.when("ACL surgery", "Up to 95 visits per surgery are covered.")
    result = await penstock.ask(QUESTION, options=Options(model="scripted", when_ungrounded="mark"))
    assert result.answer is not None
    assert result.verdict is not None
    assert not result.verdict.passed


async def test_tokens_are_streamed_as_they_come_and_end_with_a_finish_reason(
    penstock: Penstock, script: Script
) -> None:
    script.when("ACL surgery", GROUNDED)
    deltas: list[TokenDelta] = []
    result = await penstock.ask(QUESTION, options=SCRIPTED, on_delta=deltas.append)
    assert result.answer is not None
    assert "".join(delta.text for delta in deltas) == result.answer.text
    assert [delta.index for delta in deltas] == list(range(len(deltas)))
    assert deltas[-1].finish_reason == "stop"


async def test_a_follow_up_question_is_understood_from_the_session(penstock: Penstock, script: Script) -> None:
    script.when(
        "And for other conditions", "Covered for up to 20 visits in a plan year, at a $35 copay for each visit."
    )
    script.when("ACL surgery", GROUNDED)
    first = await penstock.ask(QUESTION, session="physio", options=SCRIPTED)
    second = await penstock.ask("And for other conditions?", session="physio", options=SCRIPTED)
    alone = await penstock.ask("And for other conditions?", session="another", options=SCRIPTED)

    assert first.failure is None
    assert second.answer is not None
    assert {quote.clause for quote in second.answer.quotes} >= {"4.3"}
    turns = [(message["role"], message["content"]) for message in script.requests[1].body["messages"]]
    assert turns[1:3] == [("user", QUESTION), ("assistant", GROUNDED)]
    assert alone.usage.calls == 1
    assert len(script.requests[2].body["messages"]) == 2  # system and user: that session has no past
    steps = [hop.step for hop in await penstock.events(second.job)]
    assert steps.index("recall") < steps.index("retrieve") < steps.index("judge") < steps.index("remember")
