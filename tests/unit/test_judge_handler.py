"""The step Judge: grounding with its options, critiques, and one bad item among good ones."""

import subprocess
import sys

import pytest

from contracts.item import Answer, Completion, Input, Item, Passage, Quote
from contracts.job import Options
from contracts.steps import Judge
from services.judge.adapters.rubrics import Rubrics
from services.judge.handlers import judge

NOTICE = Passage(chunk="a#0", document="a", title="Handbook", text="The notice is three months.", clause="7")


async def run(items: list[Item], step: Judge | None = None, options: Options | None = None) -> list[Item]:
    return await judge(items, step or Judge("grounding"), options or Options(), Rubrics({}))


def asked(text: str, n: int = 0) -> Item:
    return Item(n=n, input=Input(question="How long is the notice?"), passages=[NOTICE], answer=Answer(text))


async def test_the_first_completion_becomes_the_answer_with_all_it_carries() -> None:
    quote = Quote("The notice is three months.", "a", "Handbook", chunk="a#0", clause="7")
    completion = Completion(text=quote.text, model="extractive", mode="degraded", quotes=[quote])

    (done,) = await run([Item(n=0, passages=[NOTICE], completions=[completion], prompt="rag@1")])

    assert done.answer == Answer(text=quote.text, mode="degraded", quotes=[quote], model="extractive", prompt="rag@1")
    assert done.verdict is not None
    assert done.verdict.passed


async def test_an_ungrounded_answer_fails_its_item_alone() -> None:
    bad, good = await run([asked("The notice is two weeks.", 0), asked("The notice is 3 months.", 1)])

    assert bad.failure is not None
    assert (bad.failure.code, bad.failure.service) == ("ungrounded", "judge")
    assert "'The notice is two weeks.'" in bad.failure.reason
    assert bad.verdict is not None
    assert bad.verdict.findings == ["The notice is two weeks."]
    assert good.alive
    assert (bad.n, good.n) == (0, 1)


async def test_an_ungrounded_answer_may_be_marked_only() -> None:
    (done,) = await run([asked("The notice is two weeks.")], options=Options(when_ungrounded="mark"))

    assert done.alive
    assert done.verdict is not None
    assert (done.verdict.passed, done.verdict.score) == (False, 0.0)


@pytest.mark.parametrize("passages", [[NOTICE], []])
async def test_a_refusal_is_an_answer_or_a_failure_as_the_job_wants(passages: list[Passage]) -> None:
    item = Item(n=0, passages=passages, answer=Answer("The documents do not say.", mode="refused"))

    (answered,) = await run([item])
    (failed,) = await run([item], options=Options(when_refused="fail"))

    assert answered.alive
    assert answered.verdict is not None
    assert answered.verdict.passed
    assert failed.failure is not None
    assert failed.failure.code == "unanswerable"
    assert failed.failure.reason.startswith("The documents do not say")


async def test_an_item_without_anything_to_judge_says_so() -> None:
    (done,) = await run([Item(n=0)])

    assert done.failure is not None
    assert "expected an answer or a completion" in done.failure.reason


@pytest.mark.parametrize(
    ("answer", "passed", "findings"),
    [
        (Answer("", data={"passed": True, "findings": []}), True, []),
        (Answer('{"ok": false, "findings": ["too long"]}'), False, ["too long"]),
        (Answer('{"passed": true, "findings": ["but one thing"]}'), False, ["but one thing"]),
        (Answer('```json\n{"passed": true}\n```'), True, []),
    ],
)
async def test_a_critique_becomes_the_verdict_on_the_draft(answer: Answer, passed: bool, findings: list[str]) -> None:
    (done,) = await run([Item(n=0, draft="Dear customer …", answer=answer)], Judge("critique"))

    assert done.verdict is not None
    assert (done.verdict.check, done.verdict.passed, done.verdict.findings) == ("critique", passed, findings)
    assert done.draft == "Dear customer …"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Looks good to me.", "expected a JSON object"),
        ('{"findings": []}', "critique.passed: expected true or false, got None"),
        ('{"passed": true, "findings": "none"}', "critique.findings: expected a list of strings"),
    ],
)
async def test_what_is_no_critique_fails(text: str, complaint: str) -> None:
    (done,) = await run([Item(n=0, answer=Answer(text))], Judge("critique"))

    assert done.failure is not None
    assert done.failure.code == "invalid_output"
    assert complaint in done.failure.reason


def test_judge_does_without_the_encoder() -> None:
    """It checks millions of sentences on a laptop: the runtime of the encoder would cost 60 MB for nothing."""
    code = "import sys, services.judge.handlers; print('onnxruntime' in sys.modules, 'numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


async def test_what_samples_make_together_comes_from_the_lowest_rung_among_them() -> None:
    drawn = [
        Completion('{"codes": ["A"]}', "large"),
        Completion('{"codes": ["A"]}', "spare", rung="backup", why="large was away"),
    ]
    (done,) = await run([Item(n=0, completions=drawn)], Judge("vote", key="codes"))

    assert done.answer is not None
    assert (done.answer.rung, done.answer.why) == ("backup", "large was away")


async def test_a_text_that_stands_in_for_an_answer_is_not_judged() -> None:
    sorry = Answer("A colleague will look at it.", mode="degraded", rung="degraded", escalate=True)
    (done,) = await run([Item(n=0, passages=[NOTICE], answer=sorry)])

    assert done.alive
    assert (done.answer, done.verdict) == (sorry, None)


async def test_a_degraded_answer_must_stand_in_the_passages_word_for_word() -> None:
    said = Answer("The notice is 3 months.", mode="degraded", rung="degraded")
    (done,) = await run([Item(n=0, passages=[NOTICE], answer=said)])

    assert done.failure is not None
    assert done.failure.code == "ungrounded"
