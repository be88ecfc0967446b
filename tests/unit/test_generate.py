"""Generate: shards of items against a real model server, with everything that may go wrong with one of them."""

import asyncio
import dataclasses

import pytest
from generate_bench import Bench, Faulty, item, shard

from contracts.item import Passage
from contracts.steps import Generate
from loadtest.scripted_model import Reply
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.domain.breaker import Open, Permit, Unguarded
from services.generate_gpu.domain.ledger import Entry, Paid
from services.generate_gpu.handlers import generate
from shared.errors import Later, Retryable
from shared.models import Model


async def test_every_item_gets_its_answer_in_the_order_given(bench: Bench) -> None:
    for n in range(5):
        bench.model.when(f"question {n}$", Reply(f"answer {n}", delay_s=0.02 * (5 - n)))
    done = await bench.run(shard(*(item(n, prompt="direct@1") for n in range(5))))
    assert [one.n for one in done] == [0, 1, 2, 3, 4]
    answers = [one.answer for one in done]
    assert [answer.text for answer in answers if answer] == [f"answer {n}" for n in range(5)]
    assert {(answer.model, answer.prompt) for answer in answers if answer} == {("large", "direct@1")}
    assert bench.model.calls() == 5


async def test_usage_grows_by_tokens_calls_and_dollars(bench: Bench) -> None:
    reply = Reply("yes", prompt_tokens=1000, cached_tokens=800, completion_tokens=50)
    bench.model.when("question", reply)
    (once,) = await bench.run(shard(item(0)))
    assert (once.usage.prompt_tokens, once.usage.cached_tokens, once.usage.completion_tokens) == (1000, 800, 50)
    assert once.usage.calls == 1
    assert once.usage.cost_usd == pytest.approx((200 * 1.0 + 800 * 0.1 + 50 * 10.0) / 1e6)
    (twice,) = await bench.run(shard(once, hop=3))
    assert twice.usage.calls == 2
    assert twice.usage.cost_usd == pytest.approx(2 * once.usage.cost_usd)


async def test_one_item_fails_for_good_and_the_others_go_on(bench: Bench) -> None:
    bench.model.when("question 1", Reply("bad request", status=400))
    bench.model.when("question", "fine")
    done = await bench.run(shard(item(0), item(1), item(2)))
    assert [one.alive for one in done] == [True, False, True]
    failure = done[1].failure
    assert failure is not None
    assert (failure.code, failure.service) == ("upstream", "generate")
    assert failure.reason == "the model 'large' answered 400: bad request"


async def test_an_unknown_model_fails_its_items_with_the_known_ones(bench: Bench) -> None:
    (done,) = await bench.run(shard(item(0)), model="larger")
    assert done.failure is not None
    assert done.failure.reason == "no such model 'larger'; known are large, noop"


async def test_a_redelivered_shard_calls_the_model_only_for_the_rest(bench: Bench) -> None:
    bench.model.when("question 1", Reply("busy", status=503, headers={"Retry-After": "4"}), "late")
    bench.model.when("question", "fine")
    task = shard(item(0), item(1), item(2))
    with pytest.raises(Retryable) as caught:
        await bench.run(task)
    assert caught.value.after == 4
    assert bench.model.calls() == 3
    done = await bench.run(task)
    assert [one.answer.text for one in done if one.answer] == ["fine", "late", "fine"]
    assert bench.model.calls() == 4
    assert [one.usage.calls for one in done] == [1, 1, 1], "what was paid before counts once"


class AskedToWait(Unguarded):
    """The model has said Retry-After: an hour."""

    def guards(self, model: Model) -> bool:
        return True

    async def ask(self, model: Model) -> Permit | Open:
        return Open(3600.0, 0.0, "it answered 429")


@pytest.mark.parametrize("called", [True, False])
async def test_no_shard_stays_away_until_what_it_has_paid_for_is_forgotten(bench: Bench, called: bool) -> None:
    bench.model.when("question", Reply("busy", status=429, headers={"Retry-After": "3600"}))
    workshop = bench.workshop if called else dataclasses.replace(bench.workshop, breakers=AskedToWait())
    workshop = dataclasses.replace(workshop, longest_pause_s=1800)
    with pytest.raises(Retryable if called else Later) as caught:
        await generate(shard(item(0), lane="batch"), Generate(model="large"), workshop)
    assert caught.value.after == 1800
    assert bench.model.calls() == called


async def test_what_was_paid_for_at_one_hop_does_not_answer_another(bench: Bench) -> None:
    bench.model.when("question", "first", "second")
    (first,) = await bench.run(shard(item(0), hop=3))
    (second,) = await bench.run(shard(item(0), hop=5))
    assert first.answer is not None
    assert second.answer is not None
    assert (first.answer.text, second.answer.text) == ("first", "second")


async def test_an_item_that_fails_as_often_as_a_task_is_delivered_fails_alone(bench: Bench) -> None:
    bench.model.when("question 1", Reply("broken", status=500))
    bench.model.when("question", "fine")
    task = shard(item(0), item(1))
    for _ in range(bench.tries - 1):
        with pytest.raises(Retryable):
            await bench.run(task)
    fine, broken = await bench.run(task)
    assert fine.alive
    assert broken.failure is not None
    assert broken.failure.code == "upstream"
    assert broken.failure.reason == "given up after 3 attempts: the model 'large' answered 500: broken"
    assert bench.model.calls("question 0") == 1


async def test_at_the_last_attempt_what_is_paid_for_goes_on_and_the_rest_has_failed(
    bench: Bench,
) -> None:
    bench.model.when("question 1", Reply("broken", status=500))
    bench.model.when("question", "fine")
    with pytest.raises(Retryable) as caught:
        await bench.run(shard(item(0), item(1), item(2)))
    assert caught.value.settled is not None
    first, second, third = caught.value.settled
    assert (first.alive, second.alive, third.alive) == (True, False, True)
    assert second.failure is not None
    assert second.failure.code == "upstream"
    assert second.failure.reason == "given up: the model 'large' answered 500: broken"
    assert (first.usage.calls, second.usage.calls) == (1, 0)


class Unwritable(MemoryLedger):
    async def write(self, entry: Entry, paid: Paid) -> None:
        raise Retryable("the ledger in Redis does not answer")


async def test_an_answer_that_cannot_be_booked_is_used_all_the_same(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ledger = Unwritable()
    bench.model.when("question", "fine")
    (done,) = await bench.run(shard(item(0)))
    assert done.answer is not None
    assert "item 0 of acme/j1/0 is not booked" in caplog.text


async def test_no_more_items_at_once_than_the_setting_says(bench: Bench) -> None:
    bench.model.when("question", Reply("fine", delay_s=0.05))
    workshop = dataclasses.replace(bench.workshop, items_at_once=2)
    done = await generate(shard(*(item(n) for n in range(6))), Generate(model="large"), workshop)
    assert len(done) == 6
    assert bench.model.most_at_once == 2


async def test_the_model_that_does_nothing_echoes_without_a_ledger(bench: Bench) -> None:
    done = await bench.run(shard(item(0), item(1)), model="noop")
    assert [one.answer.text for one in done if one.answer] == ["question 0", "question 1"]
    assert bench.ledger.booked == {}
    await bench.run(shard(item(0)), model="noop", stream=True)
    assert [delta.text for _, delta in bench.listener.heard] == ["question 0", ""]


async def test_a_generated_answer_carries_the_quotes_that_it_cites(bench: Bench) -> None:
    passages = [
        Passage("plan#0", "plan", "HMO-483", "Dental care is excluded. Ask for details."),
        Passage("plan#1", "plan", "HMO-483", "The plan covers 30 visits a year. A referral is needed.", "", "4.2", 3),
    ]
    bench.model.when("question", 'Yes: "covers 30 visits a year" [2], with a referral [2]. Not "unlimited" [2] [9].')
    (done,) = await bench.run(shard(item(0, passages=passages)))
    assert done.answer is not None
    assert [(quote.text, quote.clause, quote.page) for quote in done.answer.quotes] == [
        ("covers 30 visits a year", "4.2", 3),
        ("A referral is needed.", "4.2", 3),
    ]


async def test_the_ledger_forgets_nothing_that_was_paid_before_a_crash(bench: Bench) -> None:
    bench.model.when("question 0", "paid")
    bench.model.when("question 1", Reply(fault="hang"))
    task = shard(item(0), item(1))
    crash = asyncio.create_task(bench.run(task))
    while not any(paid.drawn for paid in (await bench.ledger.read(task.id, 0)).values()):  # noqa: ASYNC110 - a store has no events
        await asyncio.sleep(0.01)
    crash.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crash
    bench.model.rules.clear()
    bench.model.when("question", "anew")
    done = await bench.run(task)
    assert [one.answer.text for one in done if one.answer] == ["paid", "anew"]
    assert isinstance((await bench.ledger.read(task.id, 0))[1], Paid)


async def test_a_fault_of_ours_at_one_item_breaks_off_no_other(bench: Bench) -> None:
    bench.model.when("question", Reply("fine", delay_s=0.1))
    workshop = bench.workshop
    faulty = dataclasses.replace(workshop, engines={**workshop.engines, "large": Faulty(workshop.engines["large"])})
    task = shard(item(0), item(1), item(2))
    with pytest.raises(TypeError, match="unforeseen"):
        await generate(task, Generate(model="large"), faulty)
    booked = await bench.ledger.read(task.id, 0)
    assert sorted(n for n, paid in booked.items() if paid.drawn) == [1, 2]
