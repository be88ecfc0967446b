"""Breakers on a real Redis, as several replicas see them."""

import asyncio
import socket

import pytest
from redis.asyncio import Redis

from services.generate_gpu.adapters.breakers import RedisBreakers
from services.generate_gpu.domain.breaker import Open, Permit, Told
from shared.breakers import key, open_breakers
from shared.errors import Retryable
from shared.models import Breaker, Model, Timeout

pytestmark = pytest.mark.servers

FAILED = Told("failed", judged=True, why="the model 'large' answered 503")
SLOW = Told("slow", judged=True, why="the model 'large' took 5.0 s to begin")
OK = Told("ok", judged=True)
UNJUDGED = Told("ok")


def large(**rules: float) -> Model:
    return Model(
        name="large", engine="openai", base_url="http://127.0.0.1:9/v1", id="x", breaker=Breaker.model_validate(rules)
    )


async def let(breakers: RedisBreakers, model: Model) -> Permit:
    permit = await breakers.ask(model)
    assert isinstance(permit, Permit)
    return permit


async def say(breakers: RedisBreakers, model: Model, *told: Told) -> Open | None:
    stands = None
    for one in told:
        stands = await breakers.tell(model, await let(breakers, model), one)
    return stands


async def time_passes(redis: "Redis", model: str = "large") -> None:
    """The pause is over: as if the server's clock had gone on."""
    await redis.hset(key(model), "until", 1)


@pytest.mark.parametrize(
    ("told", "opens"),
    [
        ([FAILED, FAILED, FAILED], True),
        ([SLOW, SLOW, SLOW], True),
        ([FAILED, SLOW, FAILED], True),
        ([FAILED, FAILED], False),
        ([FAILED, FAILED, OK, FAILED, FAILED], False),
        ([SLOW, SLOW, UNJUDGED, SLOW], True),  # nobody saw whether that one was slow
        ([FAILED, FAILED, UNJUDGED, Told("failed"), Told("failed")], False),
    ],
)
async def test_it_opens_after_three_in_a_row(redis: "Redis", told: list[Told], opens: bool) -> None:
    breakers, model = RedisBreakers(redis), large(open_s=30)
    stands = await say(breakers, model, *told)
    assert isinstance(stands, Open) is opens
    assert isinstance(await breakers.ask(model), Open) is opens


async def test_who_only_looks_takes_no_probe(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=30)
    assert not await breakers.away(model)
    await say(breakers, model, FAILED, FAILED, FAILED)
    assert await breakers.away(model)
    await time_passes(redis)
    assert await breakers.away(model)
    probe = await let(breakers, model)
    assert probe.probe
    await breakers.tell(model, probe, Told("failed", after=30))
    assert await breakers.away(model)


async def test_all_replicas_see_it_with_its_reason_and_other_models_do_not(redis: "Redis") -> None:
    here, there, model = RedisBreakers(redis), RedisBreakers(redis), large(open_s=30)
    await say(here, model, FAILED)
    await say(there, model, FAILED)
    await say(here, model, FAILED)
    found = await there.ask(model)
    assert isinstance(found, Open)
    assert (found.why, 0 < found.for_s <= 30, found.down_s < 30) == (FAILED.why, True, True)
    await let(there, model.model_copy(update={"name": "other"}))
    assert [(one.model, one.why, one.half_open) for one in await open_breakers(redis)] == [("large", FAILED.why, False)]


async def test_of_eight_workers_exactly_one_makes_the_probe(redis: "Redis") -> None:
    replicas, model = [RedisBreakers(redis) for _ in range(8)], large(open_s=30)
    await say(replicas[0], model, FAILED, FAILED, FAILED)
    await time_passes(redis)
    answers = await asyncio.gather(*(replica.ask(model) for replica in replicas for _ in range(5)))
    assert [answer.probe for answer in answers if isinstance(answer, Permit)] == [True]
    assert [one.half_open for one in await open_breakers(redis)] == [True]


async def test_a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_for_longer(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=10, open_max_s=30)
    await say(breakers, model, FAILED, FAILED, FAILED)
    pauses = []
    for _ in range(4):
        await time_passes(redis)
        stands = await breakers.tell(model, await let(breakers, model), FAILED)
        assert isinstance(stands, Open)
        pauses.append(stands.for_s)
    assert 9 < pauses[0] <= 20, "twice as long as at first, with jitter"
    assert all(14 < pause <= 30 for pause in pauses[1:])
    await time_passes(redis)
    assert await breakers.tell(model, await let(breakers, model), OK) is None
    assert await open_breakers(redis) == []
    assert await say(breakers, model, FAILED, FAILED) is None, "it counts from nought again"


async def test_retry_after_keeps_it_open_for_so_long(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=2, open_max_s=10)
    asked = Told("failed", why="429", after=120.0)
    calls = [await let(breakers, model) for _ in range(3)]
    stands = [await breakers.tell(model, call, told) for call, told in zip(calls, [asked, FAILED, FAILED], strict=True)]
    assert isinstance(stands[-1], Open)
    assert 100 < stands[-1].for_s <= 120


async def test_who_said_retry_after_once_is_called_by_no_replica_before(redis: "Redis") -> None:
    here, there, model = RedisBreakers(redis), RedisBreakers(redis), large()
    assert await say(here, model, Told("failed", why="429", after=120.0)) is None, "one refusal does not open it"
    for replica in (here, there):
        found = await replica.ask(model)
        assert isinstance(found, Open)
        assert (100 < found.for_s <= 120, found.down_s < 30, found.why) == (True, True, "429")
    assert await open_breakers(redis) == []
    assert await redis.ttl(key("large")) > 0
    await redis.hset(key("large"), "notbefore", 1)  # as if the server's clock had gone on
    assert not (await let(there, model)).probe


@pytest.mark.parametrize("told", [OK, FAILED, Told("unknown")])
async def test_calls_that_were_on_their_way_do_not_shorten_a_retry_after(redis: "Redis", told: Told) -> None:
    breakers, model = RedisBreakers(redis), large()
    calls = [await let(breakers, model) for _ in range(3)]
    for call, after in zip(calls, [120.0, 5.0, None], strict=True):
        await breakers.tell(model, call, Told("failed", after=after) if after else told)
    found = await breakers.ask(model)
    assert isinstance(found, Open)
    assert 100 < found.for_s <= 120


async def test_a_retry_after_that_comes_when_it_is_open_counts_and_a_probe_takes_it_back(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=2, open_max_s=10)
    late = await let(breakers, model)
    await say(breakers, model, FAILED, FAILED, FAILED)
    await breakers.tell(model, late, Told("failed", after=120.0))
    found = await breakers.ask(model)
    assert isinstance(found, Open)
    assert 100 < found.for_s <= 120
    await time_passes(redis)
    await breakers.tell(model, await let(breakers, model), OK)
    assert not (await let(breakers, model)).probe


async def test_calls_from_before_it_changed_say_nothing_about_now(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=30)
    old = await let(breakers, model)
    await say(breakers, model, FAILED, FAILED, FAILED)
    assert isinstance(await breakers.tell(model, old, OK), Open), "an answer that was on its way does not close it"
    await time_passes(redis)
    await breakers.tell(model, await let(breakers, model), OK)
    for _ in range(3):
        assert await breakers.tell(model, old, FAILED) is None, "nor does a failure that was on its way open it again"


async def test_a_probe_that_was_given_up_is_anothers_to_make(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=30)
    await say(breakers, model, FAILED, FAILED, FAILED)
    await time_passes(redis)
    probe = await let(breakers, model)
    assert isinstance(await breakers.ask(model), Open)
    assert isinstance(await breakers.tell(model, probe, Told("unknown")), Open)
    assert (await let(breakers, model)).probe


async def test_a_prober_that_died_does_not_keep_the_probe(redis: "Redis") -> None:
    breakers, model = RedisBreakers(redis), large(open_s=30)
    await say(breakers, model, FAILED, FAILED, FAILED)
    await time_passes(redis)
    first = await let(breakers, model)
    await redis.hset(key("large"), "probe", 1)  # its lease is over
    assert (await let(breakers, model)).probe
    assert await breakers.tell(model, first, OK) is None, "it was only slow: its answer counts"


async def test_a_model_that_answers_leaves_nothing_in_redis(redis: "Redis") -> None:
    await say(RedisBreakers(redis), large(), OK, OK)
    assert await redis.keys("*") == []


async def test_a_redis_that_is_away_is_retryable_and_loses_no_answer() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        redis: Redis = Redis.from_url(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        breakers = RedisBreakers(redis)
        with pytest.raises(Retryable, match="the breakers in Redis do not answer"):
            await breakers.ask(large())
        assert await breakers.tell(large(), Permit(0), OK) is None


def test_only_models_behind_an_endpoint_have_one() -> None:
    breakers = RedisBreakers(Redis())
    assert breakers.guards(large())
    assert not breakers.guards(Model(name="e", engine="extractive"))
    assert not breakers.guards(Model(name="v", engine="vllm", id="x", timeout=Timeout()))
