"""The attempts at an item's answer, as readers of its tokens see them.

One count over all services and deliveries: whoever begins anew, after a crash or one step later, is above everything
that readers have heard so far.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Retryable

_COUNTED_S = 7200  # the longest Retry-After that is honoured, and an hour


class Attempts(Protocol):
    """Counts for two hours or so after the last one."""

    async def begin(self, task: str, n: int) -> int:
        """The number of an attempt that is about to begin: 1 for the first, higher with each one after it.

        Raises Retryable where the store does not answer.
        """


@dataclass(frozen=True)
class RedisAttempts:
    """One short-lived hash for each task whose tokens are streamed, a field for each item."""

    redis: "Redis"
    ttl_s: int = _COUNTED_S

    async def begin(self, task: str, n: int) -> int:
        key = f"attempts:{{{task}}}"
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hincrby(key, str(n), 1)
                pipe.expire(key, self.ttl_s)
                attempt, _ = await pipe.execute()
        except RedisError as error:
            raise Retryable(f"the attempts in Redis cannot be counted: {error}") from error
        return int(attempt)


@dataclass(frozen=True)
class MemoryAttempts:
    """Forgets with its process: for tests and benches."""

    counted: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def begin(self, task: str, n: int) -> int:
        self.counted[task, n] += 1
        return self.counted[task, n]
