"""The ladder: scripted endpoints, the extractive reader and a text behind them."""

import pytest
from ladder_scene import DOWN, PASSAGE, SORRY, Scene, item, said, shard

from contracts.item import Part
from contracts.steps import Decide, Generate
from loadtest.scripted_model import Reply
from shared.errors import Retryable
from shared.models import Breaker
from shared.results import tally

pytestmark = pytest.mark.servers


async def test_the_model_that_was_asked_for_answers_and_says_nothing_of_rungs(scene: Scene) -> None:
    scene.large.when(".", "Fourteen.")
    done = await scene.ask()
    assert said(done) == ("Fourteen.", "large", "primary")
    assert done.answer is not None
    assert done.answer.why == ""
    assert scene.spare.calls() == 0


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (DOWN, "the model 'large' answered 503: overloaded"),
        (Reply("slow down", status=429, headers={"Retry-After": "30"}), "the model 'large' answered 429: slow down"),
        (Reply(fault="reset"), "the model 'large': the connection failed"),
        (Reply(fault="hang"), "the model 'large' said nothing within 2 s"),
        (Reply("late", delay_s=20), "the model 'large' said nothing within 2 s"),
        (Reply("no such model", status=404), "the model 'large' answered 404: no such model"),
        (Reply("bad key", status=401), "the model 'large' refuses a call without a key (401)"),
        (Reply("broke", status=429, code="insufficient_quota"), "the model 'large' answered 429: broke"),
    ],
)
async def test_who_waits_hears_the_backup_at_once_and_why(scene: Scene, reply: Reply, why: str) -> None:
    scene.breaker = Breaker(slow_s=2, open_s=30)
    scene.large.when(".", reply)
    scene.spare.when(".", Reply("Fourteen.", completion_tokens=1000))
    done = await scene.ask()
    assert said(done) == ("Fourteen.", "spare", "backup")
    assert done.answer is not None
    assert done.answer.why.startswith(why)
    assert done.answer.mode == "generated"
    assert done.usage.cost_usd == pytest.approx(0.001), "priced as the model that made it"
    assert (scene.large.calls(), scene.spare.calls()) == (1, 1)


async def test_without_a_model_the_reader_quotes_and_says_that_this_is_degraded(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    done = await scene.ask()
    assert done.answer is not None
    assert said(done) == (PASSAGE.text, "extractive", "degraded")
    assert (done.answer.mode, done.answer.quotes[0].text, done.answer.escalate) == ("degraded", PASSAGE.text, False)
    assert done.answer.why == "the model 'large' answered 503: overloaded; the model 'spare' answered 503: overloaded"
    assert tally([done]).rungs == {"degraded": 1}


async def test_with_nothing_to_quote_there_is_a_text_that_calls_for_a_person(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    (done,) = await scene.run(shard(item(0, passages=[])))
    assert done.answer is not None
    assert said(done) == (SORRY, "sorry", "degraded")
    assert (done.answer.mode, done.answer.escalate) == ("degraded", True)
    assert "the model 'extractive' has nothing to quote" in done.answer.why


@pytest.mark.parametrize(
    "fields",
    [
        {"group": "acme/j1/0/3"},  # a sample, a section
        {"steps": [Generate(), Decide()]},  # a draft
    ],
)
async def test_the_text_is_never_taken_for_a_part_of_something(scene: Scene, fields: dict[str, object]) -> None:
    scene.fallback = ("sorry",)
    scene.large.when(".", Reply("no", status=404))
    (done,) = await scene.run(shard(item(0), **fields))
    assert done.failure is not None
    assert (done.failure.code, done.failure.reason) == (
        "upstream",
        "no model of large, sorry answers: the model 'large' answered 404: no; "
        "the model 'sorry' has one text, which is no use here",
    )


async def test_a_schema_is_filled_by_models_that_write_or_not_at_all(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    task = shard(item(0))
    for _ in range(scene.tries - 1):
        with pytest.raises(Retryable, match="no model of large, spare, extractive, sorry answers"):
            await scene.run(task, schema={"type": "object"})
    (done,) = await scene.run(task, schema={"type": "object"})
    assert done.failure is not None
    assert done.failure.code == "upstream"
    why = "given up after 3 attempts: no model of large, spare, extractive, sorry answers"
    assert done.failure.reason.startswith(why)


async def test_an_items_own_fault_is_not_passed_down(scene: Scene) -> None:
    scene.large.when(".", Reply("prompt is too long", status=400))
    done = await scene.ask()
    assert done.failure is not None
    assert done.failure.code == "too_large"
    assert scene.spare.calls() == 0


async def test_what_is_made_of_a_degraded_part_is_degraded(scene: Scene) -> None:
    scene.large.when(".", "All in all.")
    part = Part(0, "a quote", rung="degraded", why="the model 'large' was away")
    (done,) = await scene.run(shard(item(0, parts=[Part(1, "a summary"), part])))
    assert done.answer is not None
    assert (done.answer.rung, done.answer.why) == ("degraded", "the model 'large' was away")


async def test_readers_of_a_stream_are_told_to_forget_what_the_rung_above_had_begun(scene: Scene) -> None:
    scene.large.when(".", Reply("It must have", fault="half"))
    scene.spare.when(".", "Fourteen characters.")
    await scene.ask(stream=True)
    first = [delta for delta in scene.heard if delta.attempt == 1]
    second = [delta for delta in scene.heard if delta.attempt == 2]
    assert "".join(delta.text for delta in first).startswith("It ")
    assert "".join(delta.text for delta in second) == "Fourteen characters."
    assert [delta.index for delta in second] == list(range(len(second)))
    assert scene.heard[-1].finish_reason == "stop"


async def test_what_was_paid_for_on_any_rung_is_not_bought_again(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    task = shard(item(0), id="acme/paid/0")
    (once,) = await scene.run(task)
    (again,) = await scene.run(task, scene.replica())
    assert (said(once), once.usage) == (said(again), again.usage)
    assert (scene.large.calls(), scene.spare.calls()) == (1, 1)
