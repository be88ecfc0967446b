"""Judge: check, vote or pick."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.item import Answer, Failure, FailureCode, Item, Verdict
from contracts.job import Lane, Options
from contracts.steps import Judge
from services.judge.domain import grounding, vote
from services.judge.domain.answers import answer_of
from services.judge.domain.critique import critique_of
from services.judge.domain.rubric import Rubric, pick, score
from services.judge.domain.samples import Data, samples
from services.judge.domain.sources import sources
from services.judge.domain.statements import is_refusal
from shared.errors import ItemError
from shared.rungs import lowest
from shared.turns import TURNS

SERVICE = "judge"


class RubricShelf(Protocol):
    """Where rubrics come from."""

    def get(self, reference: str) -> tuple[str, Rubric]:
        """`name` or `name@version` → `name@version` and the rubric; raises ItemError where there is none."""


async def judge(
    items: Sequence[Item], step: Judge, options: Options, rubrics: RubricShelf, lane: Lane = "interactive"
) -> list[Item]:
    """Each item with a verdict, in the order given; one that cannot be judged fails alone."""
    checks: dict[str, Callable[[Item], Item]] = {
        "grounding": lambda item: grounded(item, options),
        "vote": lambda item: voted(item, step.key),
        "rubric": lambda item: picked(item, step.rubric, rubrics),
        "critique": lambda item: replace(item, verdict=critique_of(item)),
    }
    judged = []
    for item in items:
        judged.append(_or_failed(item, checks[step.check]))
        await TURNS.give_way(lane)
    return judged


def grounded(item: Item, options: Options) -> Item:
    """Whether the passages support the answer; what does not pass fails where the options say so."""
    answer = answer_of(item)
    if answer is None:
        raise ItemError("internal", "grounding: expected an answer or a completion to check, got neither")
    if answer.escalate:
        return replace(item, answer=answer)  # it claims nothing, and has not answered: there is nothing to judge
    found = sources(item)
    answer, verdict = grounding.check(answer, found)
    item = replace(item, answer=answer, verdict=verdict)
    if is_refusal(answer) and options.when_refused == "fail":
        return _failed(item, "unanswerable", f"The documents do not say: {_searched(len(found))} the question")
    if not verdict.passed and options.when_ungrounded == "fail":
        reason = f"no passage supports the sentence {verdict.findings[0]!r}"
        return _failed(item, "ungrounded", reason)
    return item


def voted(item: Item, key: str) -> Item:
    """The majority of the samples as the answer."""
    drawn = samples(item)
    outcome, left_out = vote.take(drawn, key)
    findings = [*left_out, *(f"no majority for {lost}" for lost in outcome.lost)]
    data = vote.with_result(outcome, key)
    text = vote.shown(outcome.value) if data is None or key else vote.shown(data)
    verdict = Verdict("vote", outcome.decided, round(outcome.agreement, 4), findings, outcome.shares)
    return replace(item, answer=_made(item, text, data), verdict=verdict)


def picked(item: Item, reference: str, rubrics: RubricShelf) -> Item:
    """The sample that scores best by the rubric as the answer."""
    name, rubric = rubrics.get(reference)
    drawn = [sample for sample in samples(item) if sample.failure is None and sample.text.strip()]
    if not drawn:
        raise ItemError("invalid_output", f"rubric {name}: expected at least one sample to score, got none")
    scores = [score(rubric, sample.text) for sample in drawn]
    best = pick(scores)
    if best is None:
        missed = sorted({miss for one in scores for miss in one.misses})
        raise ItemError(
            "invalid_output", f"rubric {name}: each of the {len(drawn)} samples misses a must ({', '.join(missed)})"
        )
    chosen = drawn[best]
    out = [
        f"sample {s.index}: misses {', '.join(one.misses)}" for s, one in zip(drawn, scores, strict=True) if one.misses
    ]
    verdict = Verdict("rubric", True, scores[best].total, out, scores[best].by)
    return replace(item, answer=_made(item, chosen.text, chosen.data), verdict=verdict)


def _or_failed(item: Item, check: Callable[[Item], Item]) -> Item:
    try:
        return check(item)
    except ItemError as error:
        return replace(item, failure=error.failure(SERVICE))


def _failed(item: Item, code: FailureCode, reason: str) -> Item:
    return replace(item, failure=Failure(code, reason, SERVICE))


def _searched(count: int) -> str:
    return f"none of the {count} passages that were read answers" if count else "no passage was found that answers"


def _made(item: Item, text: str, data: Data | None) -> Answer:
    """The answer that samples make together; it is no better than the lowest rung that one of them came from."""
    rung, why = lowest(item.parts or item.completions)
    return Answer(text=text, data=data, model=_model(item), prompt=item.prompt, rung=rung, why=why)


def _model(item: Item) -> str:
    if item.answer is not None and item.answer.model:
        return item.answer.model
    return item.completions[0].model if item.completions else ""
