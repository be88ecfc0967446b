"""Remembers in Redis how long items of each kind of job take: a hint, so losing it costs nothing but a few messages."""

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.job import Options
from contracts.task import Tally
from services.route.domain.pace import pace_of, smoothed
from shared.errors import Retryable

_KEY = "pace"
_FEWEST = 10  # items of a job that says something about others


@dataclass(frozen=True)
class Paces:
    """Seconds an item, by pattern and model. Raises Retryable where Redis does not answer."""

    redis: "Redis"

    async def read(self, pattern: str, options: Options) -> float | None:
        try:
            found = await self.redis.hget(_KEY, _kind(pattern, options))
        except RedisError as error:
            raise Retryable(f"the pace of jobs in Redis: {error}") from error
        return None if found is None else float(found)

    async def note(self, pattern: str, options: Options, counts: Tally) -> None:
        """Learn from a finished job."""
        seen = pace_of(counts)
        if seen is None or counts.succeeded < _FEWEST:
            return
        pace = smoothed(await self.read(pattern, options), seen)
        try:
            await self.redis.hset(_KEY, _kind(pattern, options), f"{pace:.9f}")
        except RedisError as error:
            raise Retryable(f"the pace of jobs in Redis: {error}") from error


def _kind(pattern: str, options: Options) -> str:
    return f"{pattern}/{options.model}/{options.n}"
