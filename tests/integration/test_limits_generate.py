"""Generate under limits: a scripted endpoint, real Redis and NATS. Nothing is called that the limits do not allow."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from generate_bench import Faulty
from in_process import Core, GenerateSettings, eventually
from limits_scene import Scene, failure, item, open_scene, shard
from redis.asyncio import Redis

from contracts.steps import Generate
from contracts.subjects import WORK
from loadtest.scripted_model import Reply, ScriptedModel
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.adapters.limits import RedisLimiter
from services.generate_gpu.adapters.usage import UsageDesk
from services.generate_gpu.domain.limits import NANO, Ask, Shard, Spent
from services.generate_gpu.domain.permits import Limited
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.errors import Later, Retryable
from shared.limits import Limits
from shared.models import Catalogue, Model

pytestmark = pytest.mark.servers

SCHEMA: dict[str, object] = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}


@pytest.fixture
async def scene(redis: "Redis") -> AsyncIterator[Scene]:
    async with open_scene(redis) as opened:
        yield opened


async def evals(redis: "Redis") -> int:
    """Scripts that Redis has run since its statistics were reset."""
    stats = await redis.info("commandstats")
    return sum(entry["calls"] for name, entry in stats.items() if "eval" in name)


async def test_a_burst_is_served_as_far_as_there_is_room_and_the_rest_comes_back(scene: Scene) -> None:
    scene.limit(rpm=10)
    scene.window_s = 1
    scene.model.when("question", "fine")
    task = shard(*(item(n) for n in range(15)))
    with pytest.raises(Later, match="waits for the limit of the tenant 'acme', 10 calls a minute") as raised:
        await scene.run(task)
    assert scene.model.calls() == 10
    await asyncio.sleep(raised.value.after + 0.1)
    done = await scene.run(task, scene.replica())
    assert all(one.alive for one in done)
    assert scene.model.calls() == 15  # what was paid for is not bought again
    assert scene.met == [("acme", "tenant", "rpm", "waits", 5)]


async def test_without_limits_redis_is_not_asked(scene: Scene) -> None:
    scene.model.when("question", "fine")
    await scene.redis.config_resetstat()
    await scene.run(shard(item(0)))
    scene.limits = Limits.model_validate({"tenants": {"other": {"rpm": 1}}, "models": {"spare": {"rpm": 1}}})
    await scene.run(shard(item(0), id="acme/j2/0"))
    assert await evals(scene.redis) == 0


async def test_a_whole_shard_takes_one_round_trip_and_one_more_where_tokens_count(scene: Scene) -> None:
    scene.model.when("question", "fine")
    scene.limit(rpm=100)
    await scene.redis.config_resetstat()
    await scene.run(shard(*(item(n) for n in range(15))))
    assert await evals(scene.redis) == 1
    scene.limit(tpm=100_000)
    await scene.run(shard(*(item(n) for n in range(15)), id="acme/j2/0"))
    assert await evals(scene.redis) == 3


async def test_what_cannot_be_served_before_its_deadline_hears_so_at_once(scene: Scene) -> None:
    scene.limit(rpm=1)
    scene.model.when("question", "fine")
    soon = time.time() + 5
    done = await scene.run(shard(item(0), item(1, deadline=soon), item(2, deadline=soon)))
    assert [one.alive for one in done] == [True, False, False]
    said = failure(done[1])
    assert said.code == "over_limit"
    assert "the limit of the tenant 'acme', 1 calls a minute, is used up for longer than the deadline" in said.reason
    assert 50 < said.retry_after_s <= 125
    assert (await scene.used()).interactive == 0  # nobody keeps a place in line for them


async def test_batch_work_is_shed_first_and_told_when_to_come_back(scene: Scene) -> None:
    scene.limits = Limits.model_validate({"tenants": {"acme": {"rpm": 5}}, "batch": {"wait_s": 10, "share": 0.8}})
    scene.model.when("question", "fine")
    done = await scene.run(shard(*(item(n) for n in range(6)), lane="batch", deadline=time.time() + 3600))
    assert [one.alive for one in done] == [True] * 4 + [False] * 2
    assert "is used up for longer than batch work may wait: try again in" in failure(done[4]).reason
    (person,) = await scene.run(shard(item(0), id="acme/ask/0"))
    assert person.alive


async def test_users_have_allowances_of_their_own(scene: Scene) -> None:
    scene.limit(users={"*": {"rpm": 1}, "ann": {"rpm": 2}})
    scene.model.when("question", "fine")
    for user, calls in (("ann", 2), ("ben", 1), ("", 1)):
        deadline = time.time() + 5
        task = shard(*(item(n, deadline=deadline) for n in range(3)), id=f"acme/{user}/0", user=user)
        assert sum(one.alive for one in await scene.run(task)) == calls
    (told,) = await scene.run(shard(item(0, deadline=time.time() + 5), id="acme/x/0", user="ben"))
    assert "the limit of the user 'ben' of 'acme', 1 calls a minute" in failure(told).reason


async def test_a_budget_that_does_not_bear_a_call_says_all_about_it(scene: Scene) -> None:
    scene.limit(usd_month=0.0025)
    scene.model.when("question", Reply("fine", prompt_tokens=1000, completion_tokens=100))
    (first,) = await scene.run(shard(item(0)))
    assert first.usage.cost_usd == pytest.approx(0.002)
    (second,) = await scene.run(shard(item(0), id="acme/j2/0"))
    said = failure(second)
    assert said.code == "over_budget"
    assert "the budget of the tenant 'acme', $0.0025 a month, does not bear the call: $0.002 spent" in said.reason
    assert "it resets at " in said.reason
    assert 0 < said.retry_after_s <= 31 * 86400
    assert scene.model.calls() == 1
    assert scene.met == [("acme", "tenant", "usd_month", "refused", 1)]


@pytest.mark.parametrize("fault", [None, "no-usage"])
async def test_a_streamed_answer_is_charged_like_a_buffered_one(scene: Scene, fault: Any) -> None:
    scene.limit(usd_day=1, tpm=100_000)
    scene.model.when("question", Reply("a text of several words, said piece by piece", fault=fault))
    (buffered,) = await scene.run(shard(item(0)))
    after_one = await scene.used()
    (streamed,) = await scene.run(shard(item(0), id="acme/j2/0"), stream=True)
    after_two = await scene.used()
    assert buffered.usage == streamed.usage
    assert after_one.day == round(buffered.usage.cost_usd * NANO) > 0
    assert (after_two.day, after_two.tokens) == (2 * after_one.day, 2 * after_one.tokens)
    assert after_two.held == 0


async def test_a_stream_that_is_broken_off_is_charged_for_what_it_said(scene: Scene) -> None:
    scene.limit(usd_day=1)
    scene.model.when("question", Reply("half of what it wanted to say", fault="half"), "never")
    with pytest.raises(Retryable, match=r"half an answer|the connection failed"):
        await scene.run(shard(item(0)), stream=True)
    lost = await scene.used()
    assert lost.day > 0
    assert lost.held == 0
    (done,) = await scene.run(shard(item(0)), stream=True)  # redelivered: the lost call is part of what it cost
    assert done.usage.calls == 2
    assert (await scene.used()).day == round(done.usage.cost_usd * NANO) > lost.day


async def test_a_cancelled_call_is_charged_for_its_prompt_and_frees_the_rest(scene: Scene) -> None:
    scene.limit(usd_day=1)
    scene.model.when("question", Reply(fault="hang"))
    running = asyncio.create_task(scene.run(shard(item(0))))
    await eventually(lambda: scene.model.calls() == 1)
    assert (await scene.used()).held > 0
    scene.cancelled["j1"] = "not needed any more"
    (done,) = await running
    assert failure(done).code == "cancelled"
    assert (done.usage.completion_tokens, done.usage.calls) == (0, 1)
    used = await scene.used()
    assert (used.day, used.held) == (round(done.usage.cost_usd * NANO), 0)
    assert used.day > 0


async def test_an_answer_without_a_text_has_cost_all_the_same(scene: Scene) -> None:
    scene.limit(usd_day=1)
    scene.model.when("question", Reply("", finish_reason="length", prompt_tokens=10, completion_tokens=100))
    (done,) = await scene.run(shard(item(0)))
    assert "used all 100 tokens before any text" in failure(done).reason
    assert done.usage.cost_usd == pytest.approx((10 * 1.0 + 100 * 10.0) / 1e6)
    assert (await scene.used()).day == round(done.usage.cost_usd * NANO)


class Mute(RedisLimiter):
    """A Redis that goes away before the calls are settled."""

    async def settle(self, shard: Shard, spent: Sequence[Spent], unused: Sequence[float] = ()) -> None:
        raise Retryable("gone")


async def test_what_was_not_settled_before_a_crash_is_settled_once_at_redelivery(scene: Scene) -> None:
    scene.limit(usd_day=1)
    scene.model.when("question", Reply("fine", prompt_tokens=1000, completion_tokens=100))
    mute = Mute(scene.redis, scene.limits.batch, scene.limits.reserve_s, 3600)
    await scene.run(shard(item(0)), scene.replica(mute))
    used = await scene.used()
    assert (used.day, used.held > 0) == (0, True)
    for _ in range(2):
        (done,) = await scene.run(shard(item(0)))
        used = await scene.used()
        assert (used.day, used.held) == (round(done.usage.cost_usd * NANO), 0)
    assert scene.model.calls() == 1


async def test_a_fault_of_ours_at_one_item_leaves_no_reservation(scene: Scene) -> None:
    scene.limit(usd_day=1)
    scene.model.when("question 1", Reply("fine", prompt_tokens=1000, completion_tokens=100, delay_s=0.1))
    replica = scene.replica()
    faulty = replace(replica, engines={**replica.engines, "large": Faulty(replica.engines["large"])})
    with pytest.raises(TypeError, match="unforeseen"):
        await scene.run(shard(item(0), item(1)), faulty)
    used = await scene.used()
    assert (used.day, used.held) == (round(0.002 * NANO), 0)


async def test_a_repair_is_a_call_of_its_own(scene: Scene) -> None:
    scene.limit(rpm=1)
    scene.window_s = 1
    scene.model.when("question", '{"total": "many"}', '{"total": 3}')
    with pytest.raises(Later) as raised:
        await scene.run(shard(item(0)), schema=SCHEMA)
    assert scene.model.calls() == 1
    await asyncio.sleep(raised.value.after + 0.1)
    (done,) = await scene.run(shard(item(0)), schema=SCHEMA)
    assert done.answer is not None
    assert done.answer.data == {"total": 3}
    assert scene.model.calls() == 2


async def test_a_further_call_of_an_item_leaves_its_shard_in_line(scene: Scene) -> None:
    counter, limit = scene.limiter, list(Limits.model_validate({"tenants": {"acme": {"rpm": 2}}}).of_tenant("acme"))
    night = Shard("night", limit, batch=False)
    await counter.take(night, [Ask(n, 0, 0) for n in range(4)])
    await counter.take(night, [Ask(0, 0, 0)], line="night/0")
    await counter.take(night, [Ask(0, 0, 0, patience_s=0)], line="night/0")
    assert (await counter.look(limit)).scopes[0].interactive == 2


async def test_room_that_was_not_used_is_given_back(scene: Scene) -> None:
    scene.limit(rpm=10, rpd=10, tpm=100_000)
    scene.fallback, scene.guarded = ("spare",), True
    await scene.leave_alone("large")
    with pytest.raises(Later, match="waits for the model 'large'"):
        await scene.run(shard(item(0), item(1), lane="batch"))
    used = await scene.used()
    assert (used.requests, used.today, used.tokens) == (0, 0, 0)


async def test_free_models_are_limited_too_and_done_items_are_not_asked_again(scene: Scene) -> None:
    scene.limit(rpm=3)
    scene.window_s = 1
    task = shard(*(item(n) for n in range(5)))
    with pytest.raises(Later) as raised:
        await scene.run(task, model="noop")
    await asyncio.sleep(raised.value.after + 0.1)
    assert all(one.answer for one in await scene.run(task, model="noop"))


async def test_what_is_used_can_be_looked_at(scene: Scene) -> None:
    scene.limit(rpm=10, usd_day=1, users={"*": {"rpm": 5}, "named": {"rpm": 7}})
    scene.model.when("question", Reply("fine", prompt_tokens=1000, completion_tokens=100))
    await scene.run(shard(item(0), item(1), user="ann"))
    desk = UsageDesk(scene.limits, scene.limiter)
    found = await desk.look("acme")
    shown = {(scope.kind, scope.name): {limit.name: limit.used for limit in scope.limits} for scope in found.scopes}
    assert shown[("tenant", "acme")] == {"rpm": 2, "usd_day": pytest.approx(0.004)}
    assert (shown[("user", "ann")], shown[("user", "named")]) == ({"rpm": 2}, {"rpm": 0})
    assert [scope.name for scope in (await desk.look("acme", "ben")).scopes] == ["acme", "ben"]
    assert (await desk.look("other")).scopes == []


async def test_a_night_of_batch_work_waits_in_the_queue_while_a_person_is_answered(core: Core) -> None:
    """Post 004, "Rate limits": queueing smooths bursts, limits hold, and who waits for an answer gets it."""
    limits = Limits.model_validate({"tenants": {core.tenant: {"rpm": 10}}})
    limiter = RedisLimiter(core.redis, limits.batch, limits.reserve_s, 3600, window_s=1)
    async with ScriptedModel.running() as model:
        model.when("question", "fine")
        large = Model(name="large", engine="openai", base_url=model.url, id="large", default=True)
        workshop = Workshop(
            Catalogue(models=(large,)), {"large": OpenAI(large)}, RedisLedger(core.redis, 60), _Nobody(),
            limits=Limited(limits, limiter),
        )  # fmt: skip
        await core.route()
        worker = core.worker(GenerateSettings(ack_wait_s=5, attempts=2))
        worker.on(Generate, lambda task, step: generate(task, step, workshop))
        await worker.start()
        shards = [[item(n) for n in range(first, first + 10)] for first in (0, 10, 20)]
        await core.start_job([Generate(model="large")], shards, job="night", lane="batch")
        await core.start_job([Generate(model="large")], [[item(0)]], job="person")
        assert (await core.report("person", seconds=20)).succeeded == 1
        night = await core.report("night", seconds=60)
        assert (night.succeeded, night.failed) == (30, 0)
        assert model.calls() == 31
    assert await core.dead() == []

    async def settled() -> bool:
        return await core.count(WORK.name) == 0

    await eventually(settled)


class _Nobody:
    async def publish(self, subject: str, payload: bytes) -> None:
        """Nobody listens."""
