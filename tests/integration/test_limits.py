"""Limits and budgets in a real Redis: many processes at once, waiting in line, reservations that end."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from limits_scene import pass_time
from limits_worker import CALLS, SCOPES, TOKENS
from redis.asyncio import Redis

from services.generate_gpu.adapters.limits import RedisLimiter
from services.generate_gpu.domain.limits import NANO, Ask, Shard, Spent
from shared.errors import Retryable
from shared.limits import Allowance, BatchRules, Scope

pytestmark = pytest.mark.servers

WORKER = Path(__file__).parents[1] / "limits_worker.py"
LUA = Path(__file__).parents[2] / "services" / "generate_gpu" / "adapters" / "limits.lua"


def limiter(redis: "Redis", window_s: int = 60, reserve_s: float = 900, share: float = 0.8) -> RedisLimiter:
    return RedisLimiter(redis, BatchRules(share=share), reserve_s, keep_s=3600, window_s=window_s)


def tenant(**allowance: float) -> Scope:
    return Scope("tenant", "acme", Allowance.model_validate(allowance))


def people(name: str, *scopes: Scope) -> Shard:
    return Shard(name, scopes, batch=False)


def batch(name: str, *scopes: Scope) -> Shard:
    return Shard(name, scopes, batch=True)


def calls(count: int, tokens: int = 10, nano: int = 0) -> list[Ask]:
    return [Ask(n, tokens, nano) for n in range(count)]


async def test_eight_processes_together_never_take_more_than_there_is(redis: "Redis", redis_server: str) -> None:
    pipe = asyncio.subprocess.PIPE
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, str(WORKER), redis_server, "60", stdin=pipe, stdout=pipe)
        for _ in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    printed = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    granted = [tuple(map(int, out.split())) for out, _ in printed]
    took, tokens, nano = (sum(column) for column in zip(*granted, strict=True))
    assert took <= CALLS
    assert tokens <= TOKENS
    assert nano <= NANO
    seen = (await limiter(redis, window_s=3600).look(SCOPES)).scopes
    assert (seen[0].requests, seen[0].tokens, seen[0].held) == (took, tokens, nano)
    assert seen[1].today == seen[2].requests == took
    assert sum(out > 0 for out, _, _ in granted) > 1  # they did compete
    assert TOKENS - tokens < 150 or took == CALLS or NANO - nano < 1_000_000  # and left nothing that fits


async def test_a_shard_gets_as_much_as_fits_and_hears_when_there_is_more(redis: "Redis") -> None:
    limit = tenant(rpm=10)
    taken = await limiter(redis).take(people("a", limit), calls(15))
    assert taken.granted == list(range(10))
    assert (taken.limit, taken.scope) == ("rpm", 0)
    assert 55 < taken.wait_s <= 61
    assert taken.last_s >= taken.wait_s


async def test_every_scope_must_have_room_and_the_fullest_is_named(redis: "Redis") -> None:
    wide, narrow = tenant(rpm=100, tpm=1000), Scope("user", "acme/ann", Allowance(rpm=3))
    taken = await limiter(redis).take(people("a", wide, narrow), calls(5))
    assert (len(taken.granted), taken.scope, taken.limit) == (3, 1, "rpm")
    other = Scope("user", "acme/bob", Allowance(rpm=3))
    taken = await limiter(redis).take(people("b", wide, other), calls(5, tokens=400))
    assert (len(taken.granted), taken.scope, taken.limit) == (2, 0, "tpm")


async def test_room_comes_back_when_the_window_has_passed(redis: "Redis") -> None:
    counter, limit = limiter(redis, window_s=1), tenant(rpm=2)
    first = await counter.take(people("a", limit), calls(2))
    full = await counter.take(people("b", limit), calls(1))
    assert (len(first.granted), len(full.granted)) == (2, 0)
    await asyncio.sleep(full.wait_s + 0.05)
    assert (await counter.take(people("b", limit), calls(1))).granted == [0]


async def test_nobody_overtakes_who_waits_in_line(redis: "Redis") -> None:
    counter, limit = limiter(redis, window_s=1), tenant(rpm=2)
    await counter.take(people("a", limit), calls(2))
    waits = await counter.take(people("b", limit), calls(2))
    await asyncio.sleep(waits.wait_s + 0.05)
    assert (await counter.take(people("new", limit), calls(1))).granted == []
    assert (await counter.take(people("b", limit), calls(2))).granted == [0, 1]


async def test_who_has_no_patience_is_not_in_line(redis: "Redis") -> None:
    counter, limit = limiter(redis, window_s=1), tenant(rpm=2)
    await counter.take(people("a", limit), calls(2))
    refused = await counter.take(people("b", limit), [Ask(0, 1, 0, patience_s=0.01), Ask(1, 1, 0, patience_s=0)])
    assert refused.granted == []
    assert (await counter.look([limit])).scopes[0].interactive == 0
    await asyncio.sleep(refused.wait_s + 0.05)
    assert (await counter.take(people("new", limit), calls(2))).granted == [0, 1]


async def test_a_longer_line_means_a_longer_wait(redis: "Redis") -> None:
    counter, limit = limiter(redis), tenant(rpm=10)
    waits = [(await counter.take(people(str(n), limit), calls(10))).wait_s for n in range(4)]
    assert waits[0] == 0
    assert waits[1] < waits[2] < waits[3]
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.requests, seen.interactive, seen.batch) == (10, 30, 0)


async def test_batch_work_leaves_room_for_people_and_stands_back_behind_them(redis: "Redis") -> None:
    counter, limit = limiter(redis, window_s=1), tenant(rpm=10)
    assert len((await counter.take(batch("night", limit), calls(20))).granted) == 8
    assert len((await counter.take(people("day", limit), calls(4))).granted) == 2
    await asyncio.sleep(2.1)
    assert (await counter.take(batch("night", limit), calls(12))).granted == list(range(6))  # two people wait
    assert (await counter.take(people("day", limit), calls(2))).granted == [0, 1]


async def test_the_smallest_limit_lets_batch_work_through_too(redis: "Redis") -> None:
    taken = await limiter(redis).take(batch("night", tenant(rpm=1, tpm=100)), calls(2, tokens=100))
    assert taken.granted == [0]


async def test_a_call_larger_than_the_limit_is_told_so_and_the_next_one_goes_on(redis: "Redis") -> None:
    asks = [Ask(0, 2000, 0), Ask(1, 10, 0)]
    taken = await limiter(redis).take(people("a", tenant(tpm=1000)), asks)
    assert [(over.n, over.limit) for over in taken.over] == [(0, "tpm")]
    assert taken.granted == [1]


async def test_the_calls_of_a_day_are_counted_till_midnight(redis: "Redis") -> None:
    counter, limit = limiter(redis, window_s=1), tenant(rpd=3)
    taken = await counter.take(people("a", limit), calls(5))
    assert (len(taken.granted), taken.limit) == (3, "rpd")
    midnight = datetime.fromtimestamp(taken.now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert taken.now + taken.wait_s == pytest.approx((midnight + timedelta(days=1)).timestamp(), abs=1)
    await _age(redis, "{limits}:tenant:acme", "c")
    assert len((await counter.take(people("a", limit), calls(5))).granted) == 3


async def test_a_budget_reserves_before_and_settles_after(redis: "Redis") -> None:
    counter, limit = limiter(redis), tenant(usd_day=1, usd_month=10)
    shard = people("a", limit)
    taken = await counter.take(shard, calls(4, nano=300_000_000))
    assert (taken.granted, taken.limit, taken.over) == ([0, 1, 2], "usd_day", [])  # the fourth waits: it may fit yet
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.day, seen.held) == (0, 900_000_000)
    await counter.settle(shard, [Spent(n, 10, 100_000_000) for n in range(3)])
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.day, seen.month, seen.held) == (300_000_000, 300_000_000, 0)
    assert (await counter.take(shard, [Ask(3, 10, 300_000_000)])).granted == [3]


async def test_settling_twice_charges_once_and_a_later_call_adds(redis: "Redis") -> None:
    counter, limit = limiter(redis), tenant(tpm=1000, usd_day=1)
    shard = people("a", limit)
    await counter.take(shard, [Ask(0, 100, 500)])
    await counter.settle(shard, [Spent(0, 40, 200)])
    await counter.settle(shard, [Spent(0, 40, 200)])
    await counter.take(shard, [Ask(0, 100, 500)])  # a repair
    await counter.settle(shard, [Spent(0, 70, 350)])
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.tokens, seen.day, seen.held) == (70, 350, 0)


@pytest.mark.parametrize("later_s", [50, 70])  # the first reservation is still in the window, or has left it
async def test_a_further_reservation_is_settled_where_it_is_counted(redis: "Redis", later_s: int) -> None:
    counter, limit = limiter(redis), tenant(tpm=10_000)
    shard = people("a", limit)
    await counter.take(shard, [Ask(0, 4000, 0)])
    await pass_time(redis, "tenant:acme", later_s)
    await counter.take(shard, [Ask(0, 4000, 0)])  # a repair
    await counter.settle(shard, [Spent(0, 600, 0)])
    found = []
    for seconds in (0, 50, 15):
        await pass_time(redis, "tenant:acme", seconds)
        found.append((await counter.look([limit])).scopes[0].tokens)
    assert found == [600, 600, 0]


async def test_an_empty_budget_says_what_is_spent_and_other_calls_may_still_fit(redis: "Redis") -> None:
    counter, limit = limiter(redis), tenant(usd_day=1)
    shard = people("a", limit)
    await counter.take(shard, [Ask(0, 10, NANO)])
    await counter.settle(shard, [Spent(0, 10, 900_000_000)])
    taken = await counter.take(shard, [Ask(1, 10, 200_000_000), Ask(2, 10, 50_000_000)])
    assert [(over.n, over.limit, over.used) for over in taken.over] == [(1, "usd_day", 900_000_000)]
    assert taken.granted == [2]
    await _age(redis, "{limits}:tenant:acme", "d")
    assert (await counter.take(shard, [Ask(1, 10, 200_000_000)])).granted == [1]


async def test_what_a_dead_process_has_reserved_is_released(redis: "Redis") -> None:
    counter, limit = limiter(redis, reserve_s=0.1), tenant(usd_day=1)
    await counter.take(people("dead", limit), [Ask(0, 10, 900_000_000)])
    assert (await counter.take(people("b", limit), [Ask(0, 10, 900_000_000)])).granted == []
    await asyncio.sleep(0.15)
    assert (await counter.take(people("b", limit), [Ask(0, 10, 900_000_000)])).granted == [0]
    await counter.settle(people("dead", limit), [Spent(0, 10, 50_000_000)])  # it comes back after all
    await counter.settle(people("b", limit), [Spent(0, 10, 60_000_000)])
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.day, seen.held) == (110_000_000, 0)


async def test_a_budget_that_is_added_later_starts_with_what_it_has(redis: "Redis") -> None:
    counter, without = limiter(redis, reserve_s=0.1), tenant(tpm=1000)
    limit = tenant(tpm=1000, usd_day=1)
    await counter.take(people("dead", without), [Ask(0, 10, 900_000_000)])
    await counter.take(people("a", without), [Ask(0, 10, 900_000_000)])
    await counter.settle(people("a", limit), [Spent(0, 10, 50_000_000)])  # the file has changed meanwhile
    await asyncio.sleep(0.15)
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.held, seen.day) == (0, 50_000_000)


async def test_a_budget_that_is_taken_away_for_a_while_is_settled_all_the_same(redis: "Redis") -> None:
    counter, without = limiter(redis), tenant(tpm=1000)
    limit = tenant(tpm=1000, usd_day=1)
    await counter.take(people("a", limit), [Ask(0, 10, 900_000_000)])
    await counter.settle(people("a", without), [Spent(0, 10, 50_000_000)])  # the file has changed meanwhile
    seen = (await counter.look([limit])).scopes[0]
    assert (seen.held, seen.day) == (0, 0)


async def test_users_are_known_once_they_have_used_something(redis: "Redis") -> None:
    counter = limiter(redis)
    for name in ("acme/ann", "acme/", "other/ben"):
        await counter.take(people(name, Scope("user", name, Allowance(rpm=1))), calls(1))
    assert sorted(await counter.users("acme")) == ["", "ann"]


async def test_months_are_those_of_the_calendar(redis: "Redis") -> None:
    text = LUA.read_text(encoding="utf-8")
    function = text[text.index("local function month_of") : text.index("local month = ")]
    run = redis.register_script(f"{function}\nreturn month_of(tonumber(ARGV[1]))")
    first = datetime(2023, 12, 1, tzinfo=UTC)
    for days in range(0, 900, 3):
        date = first + timedelta(days=days)
        assert await run(args=[int(date.timestamp() // 86400)]) == date.year * 12 + date.month - 1
    for date in (datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), datetime(2100, 3, 1, tzinfo=UTC)):
        assert await run(args=[int(date.timestamp() // 86400)]) == date.year * 12 + date.month - 1


async def test_a_redis_that_is_away_is_waited_for(tmp_path: Path) -> None:
    nowhere: Redis = Redis.from_url(f"unix://{tmp_path}/none.sock")
    with pytest.raises(Retryable, match="the limits in Redis do not answer"):
        await limiter(nowhere).take(people("a", tenant(rpm=1)), calls(1))
    await nowhere.aclose()


async def _age(redis: "Redis", key: str, kind: str) -> None:
    """As if what was counted under this kind had been counted a day earlier."""
    for name, value in (await redis.hgetall(key)).items():
        if name[:1] == kind.encode():
            await redis.hdel(key, name)
            await redis.hset(key, f"{kind}{int(name[1:]) - 1}", value)
