"""The breakers of models as they stand in Redis; generate opens and closes them."""

import time

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Retryable

PREFIX = "breaker:"


class OpenBreaker(Struct, frozen=True):
    """A model that is left alone. Times: unix seconds."""

    model: str
    since: float
    until: float  # then the next call is a probe
    why: str

    @property
    def half_open(self) -> bool:
        return self.until <= time.time()


def key(model: str) -> str:
    return f"{PREFIX}{{{model}}}"


async def open_breakers(redis: "Redis") -> list[OpenBreaker]:
    """Those that are open now, by name. Raises Retryable where Redis does not answer."""
    found = []
    try:
        async for name in redis.scan_iter(f"{PREFIX}*", count=1000):
            until, since, why = await redis.hmget(name, ["until", "since", "why"])
            if isinstance(until, bytes) and isinstance(since, bytes) and isinstance(why, bytes):
                model = name.decode().removeprefix(PREFIX).strip("{}")
                found.append(OpenBreaker(model, int(since) / 1000, int(until) / 1000, why.decode()))
    except RedisError as error:
        raise Retryable(f"Redis does not answer: {error}") from error
    return sorted(found, key=lambda breaker: breaker.model)
