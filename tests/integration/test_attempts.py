"""The count of attempts that readers of tokens see: the same in memory and in a real Redis."""

import socket

import pytest
from redis.asyncio import Redis

from shared.attempts import Attempts, MemoryAttempts, RedisAttempts
from shared.errors import Retryable

pytestmark = pytest.mark.servers


@pytest.fixture(params=["memory", "redis"])
def attempts(request: pytest.FixtureRequest, redis: "Redis") -> Attempts:
    return MemoryAttempts() if request.param == "memory" else RedisAttempts(redis)


async def test_attempts_rise_and_items_do_not_mix(attempts: Attempts) -> None:
    assert [await attempts.begin("acme/j1/0", 7) for _ in range(3)] == [1, 2, 3]
    assert await attempts.begin("acme/j1/0", 8) == 1
    assert await attempts.begin("acme/j1/1", 7) == 1
    assert await attempts.begin("acme/j1/0", 7) == 4


async def test_redis_forgets_in_the_end(redis: "Redis") -> None:
    await RedisAttempts(redis, ttl_s=60).begin("acme/j1/0", 7)
    (key,) = await redis.keys("*")
    assert 0 < await redis.ttl(key) <= 60


async def test_attempts_are_still_known_after_the_longest_wait(redis: "Redis") -> None:
    """An hour of Retry-After, which may come in two parts."""
    await RedisAttempts(redis).begin("acme/j1/0", 7)
    (key,) = await redis.keys("*")
    assert await redis.ttl(key) > 5400


async def test_a_redis_that_does_not_answer_is_retryable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        redis: Redis = Redis.from_url(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        with pytest.raises(Retryable, match="the attempts in Redis cannot be counted"):
            await RedisAttempts(redis).begin("acme/j1/0", 7)
