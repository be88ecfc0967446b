"""Limits along a ladder: each model is called, counted and charged within its own, and no breaker hears of them."""

from collections.abc import AsyncIterator

import pytest
from limits_scene import Scene, failure, item, open_scene, pass_time, shard
from redis.asyncio import Redis

from contracts.item import Item
from loadtest.scripted_model import Reply
from shared.breakers import key, open_breakers
from shared.errors import Later, Retryable
from shared.limits import Limits
from shared.models import Breaker, Patience

pytestmark = pytest.mark.servers

THOUSAND = Reply("fine", prompt_tokens=900, completion_tokens=100)


@pytest.fixture
async def scene(redis: "Redis") -> AsyncIterator[Scene]:
    async with open_scene(redis) as opened:
        opened.guarded, opened.fallback = True, ("spare", "sorry")
        opened.spare.when("question", THOUSAND)
        yield opened


def models(**limits: dict[str, int]) -> Limits:
    return Limits.model_validate({"models": limits})


def made_by(*done: Item) -> list[str]:
    return [one.answer.model for one in done if one.answer is not None]


async def left_alone(scene: Scene) -> list[str]:
    return [breaker.model for breaker in await open_breakers(scene.redis)]


async def test_who_finds_a_backup_full_goes_on_and_leaves_nothing_behind(scene: Scene) -> None:
    scene.limits = models(large={"rpm": 100}, spare={"rpm": 2})
    await scene.leave_alone("large")
    assert made_by(*[await scene.ask() for _ in range(8)]) == ["spare"] * 2 + ["sorry"] * 6
    assert (await scene.used_of("spare")).interactive == 0
    assert await left_alone(scene) == ["large"]
    await pass_time(scene.redis, "model:spare", 61)
    assert made_by(*[await scene.ask() for _ in range(3)]) == ["spare"] * 2 + ["sorry"]


async def test_the_limits_of_a_backup_hold_where_nothing_else_is_limited(scene: Scene) -> None:
    scene.limits = models(spare={"rpm": 1})
    scene.model.when("question", Reply("no such model", status=404))
    assert made_by(await scene.ask(), await scene.ask()) == ["spare", "sorry"]


async def test_a_batch_that_has_used_its_share_of_a_backup_keeps_nobody_from_it(scene: Scene) -> None:
    scene.limits, scene.patience = models(large={"rpm": 100}, spare={"rpm": 5}), Patience(batch=0)
    await scene.leave_alone("large")
    night = await scene.run(shard(*(item(n) for n in range(9)), lane="batch"))
    assert sorted(made_by(*night)) == ["sorry"] * 5 + ["spare"] * 4
    assert made_by(await scene.ask()) == ["spare"]


async def test_a_call_too_large_for_a_backup_is_no_news_of_it(scene: Scene) -> None:
    scene.limits = models(large={"rpm": 100}, spare={"tpm": 50})
    for name in ("large", "spare"):
        await scene.leave_alone(name)
    await scene.pause_is_over("spare")
    done = await scene.ask()
    assert made_by(done) == ["sorry"]
    assert done.answer is not None
    assert "the call may use 1" in done.answer.why
    assert await left_alone(scene) == ["large", "spare"]
    assert await scene.redis.hget(key("spare"), "probe") is None


async def test_without_a_rung_below_the_item_waits_and_no_attempt_is_used_up(scene: Scene) -> None:
    scene.limits, scene.fallback = models(large={"rpm": 100}, spare={"rpm": 1}), ("spare",)
    await scene.leave_alone("large")
    assert made_by(await scene.ask()) == ["spare"]
    task = shard(item(0))
    for _ in range(5):
        with pytest.raises(Later, match="the limit of the model 'spare', 1 calls a minute"):
            await scene.run(task)
    assert (await scene.used_of("spare")).interactive == 0
    await pass_time(scene.redis, "model:spare", 61)
    assert made_by(*await scene.run(task)) == ["spare"]


async def test_a_call_that_failed_is_an_attempt_however_full_the_backup_is(scene: Scene) -> None:
    scene.limits, scene.fallback = models(large={"rpm": 100}, spare={"rpm": 1}), ("spare",)
    scene.breaker = Breaker(failures=100)
    scene.model.when("question", Reply("overloaded", status=503))
    assert made_by(await scene.ask()) == ["spare"]
    task = shard(item(0))
    for _ in range(2):
        with pytest.raises(Retryable, match="overloaded; waits for the limit of the model 'spare'") as caught:
            await scene.run(task)
        assert not isinstance(caught.value, Later)
    (done,) = await scene.run(task)
    assert failure(done).reason.startswith("given up after 3 attempts")
    assert scene.spare.calls() == 1


async def test_each_model_is_charged_for_its_own_calls(scene: Scene) -> None:
    tpm = {"tpm": 100_000}
    scene.limits = Limits.model_validate({"tenants": {"acme": tpm}, "models": {"large": tpm, "spare": tpm}})
    scene.model.when("question 3", Reply("refused", status=400))
    scene.model.when("question", THOUSAND)
    task = shard(*(item(n) for n in range(4)))
    for _ in range(2):  # told again at a redelivery
        assert made_by(*await scene.run(task)) == ["large"] * 3 + ["spare"]
        used = await scene.used(), await scene.used_of("large"), await scene.used_of("spare")
        assert [each.tokens for each in used] == [4000, 3000, 1000]


async def test_what_a_broken_off_call_has_used_is_charged_to_the_model_that_made_it(scene: Scene) -> None:
    tpm = {"tpm": 100_000}
    scene.limits = Limits.model_validate({"tenants": {"acme": tpm}, "models": {"large": tpm, "spare": tpm}})
    scene.model.when("question", Reply("half of what it wanted to say", fault="half"))
    (done,) = await scene.run(shard(item(0)), stream=True)
    lost = done.usage.prompt_tokens + done.usage.completion_tokens - 1000
    used = await scene.used(), await scene.used_of("large"), await scene.used_of("spare")
    assert [each.tokens for each in used] == [1000 + lost, lost, 1000]
    assert lost > 0


async def test_nobody_waits_for_the_limits_of_a_model_that_is_left_alone(scene: Scene) -> None:
    scene.limits = models(large={"rpm": 1})
    scene.model.when("question", "fine")
    assert made_by(await scene.ask()) == ["large"]
    await scene.leave_alone("large")
    assert made_by(await scene.ask(), await scene.ask()) == ["spare"] * 2
    used = await scene.used_of("large")
    assert (used.requests, used.interactive) == (1, 0)


async def test_room_of_a_model_that_was_left_alone_meanwhile_is_given_back(scene: Scene) -> None:
    scene.limits = Limits.model_validate({"tenants": {"acme": {"rpm": 100}}, "models": {"large": {"rpm": 10}}})
    scene.breaker = Breaker(failures=1, open_s=60)
    scene.model.when("question", Reply("overloaded", status=503))
    workshop = scene.replica(items_at_once=1)
    assert made_by(*await scene.run(shard(*(item(n) for n in range(4))), workshop)) == ["spare"] * 4
    assert ((await scene.used_of("large")).requests, (await scene.used()).requests) == (1, 5)


async def test_whoever_makes_the_probe_needs_room_of_that_model(scene: Scene) -> None:
    scene.limits = models(large={"rpm": 1})
    scene.model.when("question", "fine")
    await scene.leave_alone("large")
    await scene.pause_is_over("large")
    assert made_by(await scene.ask()) == ["large"]
    assert (await scene.used_of("large")).requests == 1
    await scene.leave_alone("large")
    await scene.pause_is_over("large")
    with pytest.raises(Later, match="waits for the limit of the model 'large', 1 calls a minute"):
        await scene.ask()
    assert (await scene.used_of("large")).interactive == 0, "it stands in line once it comes back"
    assert await scene.redis.hget(key("large"), "probe") is None
