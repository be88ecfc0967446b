"""The breakers of a ladder, in a real Redis: shared by replicas, opened by 429, failures and slowness, probed."""

import asyncio
import dataclasses

import pytest
from ladder_scene import DOWN, NOW, SLOW, Scene, batch, item, said, shard

from contracts.item import Tool
from loadtest.scripted_model import Reply
from shared.breakers import key, open_breakers
from shared.errors import Later, Retryable
from shared.models import Breaker, Patience

pytestmark = pytest.mark.servers


def busy(seconds: int) -> Reply:
    return Reply("slow down", status=429, headers={"Retry-After": str(seconds)})


async def test_a_model_that_said_retry_after_is_left_alone_and_the_backup_answers(scene: Scene) -> None:
    scene.large.when(".", busy(30))
    scene.spare.when(".", "Fourteen.")
    replicas = [scene.replica(), scene.replica()]
    for n in range(4):
        assert said(await scene.ask(replicas[n % 2]))[1] == "spare"
    assert scene.large.calls() == 1


async def test_where_all_rungs_said_retry_after_the_task_comes_back_when_the_first_may_be_called(scene: Scene) -> None:
    scene.fallback = ("spare",)
    scene.large.when(".", busy(40))
    scene.spare.when(".", busy(20))
    for calls in (1, 1):
        with pytest.raises(Retryable, match="no model of large, spare answers") as caught:
            await scene.ask()
        assert caught.value.after == pytest.approx(20, abs=2)
        assert (scene.large.calls(), scene.spare.calls()) == (calls, calls)


async def test_a_rung_that_names_no_time_does_not_hide_that_of_another(scene: Scene) -> None:
    scene.fallback = ("spare",)
    scene.large.when(".", busy(40))
    scene.spare.when(".", DOWN)
    with pytest.raises(Retryable) as caught:
        await scene.ask()
    assert caught.value.after == 40


async def test_a_batch_waits_out_a_retry_after_without_a_call_or_an_attempt(scene: Scene) -> None:
    scene.large.when(".", busy(30), "Fourteen.")
    with pytest.raises(Retryable) as first:
        await scene.run(batch(item(0)))
    assert (type(first.value), first.value.after) == (Retryable, 30)
    for _ in range(scene.tries + 2):
        with pytest.raises(Later, match="waits for the model 'large': the model 'large' answered 429") as caught:
            await scene.run(batch(item(0)))
        assert 20 < caught.value.after <= 30
    assert (scene.large.calls(), scene.spare.calls()) == (1, 0)
    await scene.redis.hset(key("large"), "notbefore", 1)
    (done,) = await scene.run(batch(item(0)))
    assert said(done) == ("Fourteen.", "large", "primary")


@pytest.mark.parametrize("at_once", [1, 16])  # the second item finds the breaker open, or is told so itself
async def test_a_batch_comes_back_from_a_long_retry_after_while_the_backup_can_still_answer(
    scene: Scene, at_once: int
) -> None:
    scene.large.when(".", busy(3600))
    scene.spare.when(".", "Fourteen.")
    task = batch(item(0, deadline=NOW + 600), item(1))
    workshop = dataclasses.replace(scene.replica(), items_at_once=at_once)
    with pytest.raises(Retryable) as caught:
        await scene.run(task, workshop)
    assert caught.value.after == pytest.approx(540)
    with pytest.raises(Later):  # the other has time
        await scene.run(task, dataclasses.replace(workshop, clock=lambda: NOW + 541))
    assert scene.spare.calls() == 1


async def test_a_batch_comes_back_from_a_long_retry_after_when_its_patience_ends(scene: Scene) -> None:
    scene.patience = Patience(batch=100)
    scene.large.when(".", busy(3600))
    with pytest.raises(Retryable) as caught:
        await scene.run(batch(item(0)))
    assert caught.value.after == 100


async def test_two_replicas_share_a_breaker_and_leave_the_model_alone(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    replicas = [scene.replica(), scene.replica()]
    for n in range(10):
        assert said(await scene.ask(replicas[n % 2]))[1] == "spare"
    assert scene.large.calls() == 3
    (found,) = await open_breakers(scene.redis)
    assert (found.model, found.why) == ("large", "the model 'large' answered 503: overloaded")
    done = await scene.ask()
    assert done.answer is not None
    assert done.answer.why.startswith("the model 'large' is left alone for ")


async def test_of_many_who_ask_one_makes_the_probe_and_its_success_brings_all_back(scene: Scene) -> None:
    await scene.open()
    await scene.pause_is_over()
    gate = asyncio.Event()

    async def answer(call: object) -> Reply:
        scene.used += 1000
        await gate.wait()
        return Reply("Fourteen.")

    scene.breaker = Breaker(slow_s=30, open_s=30)
    scene.large.answer = answer
    scene.spare.when(".", "Spare.")
    replicas = [scene.replica() for _ in range(8)]
    asks = [asyncio.create_task(scene.ask(replica)) for replica in replicas for _ in range(4)]
    await scene.spare.until(lambda spare: spare.calls() == len(asks) - 1, timeout_s=60)
    gate.set()
    rungs = [said(done)[2] for done in await asyncio.gather(*asks)]
    assert (rungs.count("primary"), rungs.count("backup")) == (1, len(asks) - 1)
    assert scene.used // 1000 == 1, "one probe"
    assert said(await scene.ask())[2] == "primary"


async def test_a_slow_answer_counts_and_is_used_where_nobody_stands_below(scene: Scene) -> None:
    scene.fallback = ()
    scene.breaker = SLOW
    scene.large.when(".", Reply("Fourteen.", delay_s=0.4))
    for _ in range(3):
        assert said(await scene.ask(stream=True))[0] == "Fourteen."
    with pytest.raises(Retryable, match=r"the model 'large' is left alone for .* took 0.* s to begin"):
        await scene.ask(stream=True)


async def test_who_waits_for_one_of_our_own_connections_does_not_wait_for_the_model(scene: Scene) -> None:
    scene.breaker = Breaker(slow_s=1, open_s=30)
    scene.connections = 1
    scene.large.when(".", Reply("Fourteen.", delay_s=0.3))
    scene.spare.when(".", "Spare.")
    done = await scene.run(shard(*(item(n) for n in range(6))))  # 1.8 s in all, one after the other
    assert [said(one)[1] for one in done] == ["large"] * 6
    assert (scene.large.aborted, await scene.redis.exists(key("large"))) == (0, 0)


async def test_a_model_that_is_slow_once_it_has_its_call_is_given_up_however_long_that_waited(scene: Scene) -> None:
    scene.breaker = Breaker(slow_s=1, open_s=30)
    scene.connections = 1
    scene.large.when(".", *[Reply("Fourteen.", delay_s=0.4)] * 3, Reply(fault="hang"))
    scene.spare.when(".", "Spare.")
    done = await scene.run(shard(*(item(n) for n in range(4))))
    assert sorted(said(one)[1] for one in done) == ["large", "large", "large", "spare"]
    whys = [one.answer.why for one in done if one.answer is not None and one.answer.why]
    assert whys == ["the model 'large' said nothing within 1 s"]
    assert await scene.redis.hget(key("large"), "late") == b"1"


async def test_a_call_of_a_tool_is_a_sign_that_the_model_is_at_work(scene: Scene) -> None:
    scene.breaker = Breaker(slow_s=1, open_s=30)
    scene.large.when(".", Reply("", tools=[("visits", '{"n": 2}')], finish_reason="tool_calls", pause_s=0.4))
    scene.spare.when(".", "Spare.")
    done = await scene.ask(tools=[Tool("visits")])
    assert done.answer is not None
    assert (done.answer.model, [call.name for call in done.answer.tool_calls]) == ("large", ["visits"])
    assert await scene.redis.exists(key("large")) == 0


async def test_a_batch_does_not_mind_a_slow_model(scene: Scene) -> None:
    scene.breaker = SLOW
    scene.large.when(".", Reply("Fourteen.", delay_s=0.4))
    done = await scene.run(batch(*(item(n) for n in range(4))))
    assert {said(one)[2] for one in done} == {"primary"}
    assert await open_breakers(scene.redis) == []


async def test_a_batch_waits_for_the_model_it_asked_for_and_that_is_no_failure(scene: Scene) -> None:
    await scene.open()
    for _ in range(scene.tries + 2):
        with pytest.raises(Later, match="waits for the model 'large': it answered 503") as caught:
            await scene.run(batch(item(0), item(1)))
        assert 0 < caught.value.after <= 30
    scene.large.when(".", "Fourteen.")
    await scene.pause_is_over()
    with pytest.raises(Later):  # one makes the probe, the other waits
        await scene.run(batch(item(0), item(1)))
    done = await scene.run(batch(item(0), item(1)))
    assert [said(one) for one in done] == [("Fourteen.", "large", "primary")] * 2
    assert scene.large.calls() == 2, "what the probe brought is paid for and kept"


async def test_a_batchs_single_failures_come_again_and_then_go_down(scene: Scene) -> None:
    scene.breaker = Breaker(failures=100)
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    for _ in range(scene.tries - 1):
        with pytest.raises(Retryable, match="answered 503") as caught:
            await scene.run(batch(item(0)))
        assert not isinstance(caught.value, Later)
    (done,) = await scene.run(batch(item(0)))
    assert said(done) == ("Fourteen.", "spare", "backup")


@pytest.mark.parametrize(
    ("patience", "fields"),
    [
        (Patience(batch=0), {}),
        (Patience(batch=3600, margin=60), {"deadline": NOW + 30}),
    ],
)
async def test_a_batch_goes_down_where_its_patience_or_its_time_is_over(
    scene: Scene, patience: Patience, fields: dict[str, object]
) -> None:
    scene.patience = patience
    await scene.open()
    scene.spare.when(".", "Fourteen.")
    (done,) = await scene.run(batch(item(0), **fields))
    assert said(done) == ("Fourteen.", "spare", "backup")


async def test_a_batch_wakes_when_its_time_runs_out(scene: Scene) -> None:
    await scene.open()
    with pytest.raises(Later) as caught:
        await scene.run(batch(item(0, deadline=NOW + 65.0)))
    assert caught.value.after == pytest.approx(5.0)


async def test_people_may_be_made_to_wait_too(scene: Scene) -> None:
    scene.patience = Patience(interactive=3600)
    await scene.open()
    with pytest.raises(Later):
        await scene.ask()


async def test_a_call_that_is_given_up_frees_the_probe(scene: Scene) -> None:
    scene.breaker = Breaker(slow_s=30, open_s=30)
    await scene.open()
    await scene.pause_is_over()
    scene.large.when(".", Reply(fault="hang"))
    asking = asyncio.create_task(scene.ask())
    await scene.large.until(lambda large: large.calls() == 1)
    asking.cancel()
    await asyncio.wait({asking})
    await scene.large.until(lambda large: large.aborted == 1)
    assert await scene.redis.hget(key("large"), "probe") is None
