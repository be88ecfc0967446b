"""Groups: who has arrived, counted in Redis by one script, and recounted from the stream where Redis forgot."""

from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from contracts.item import Usage
from contracts.task import Tally
from shared.errors import Retryable

NANO = 1_000_000_000
TTL_S = 7 * 24 * 3600

_REASON = "reason:"
_RUNG = "rung:"
_ARRIVE = (Path(__file__).parent / "groups.lua").read_text(encoding="utf-8")
_TAKE_BACK = (Path(__file__).parent / "take_back.lua").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Count:
    """How a group stands. `size` 0 means that Redis does not know the group; `mark`, that more of it may be opened;
    `published`, that its first children are out, where WORK had no room for all of them."""

    arrived: int
    size: int
    mark: int = 0
    published: int = 0

    @property
    def complete(self) -> bool:
        return self.size > 0 and self.arrived >= self.size


@dataclass(frozen=True)
class Totals:
    """What the children of a group have brought: their tallies added up, and which of them had failures.

    `taken_back`: how often one was uncounted, so that a redriven task could take its place.
    """

    count: Count
    tally: Tally
    failed_indices: list[int]
    taken_back: int = 0


class Groups:
    """The counters of all groups. Every method may be repeated; raises Retryable where Redis does not answer."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._arrive = redis.register_script(_ARRIVE)
        self._take_back = redis.register_script(_TAKE_BACK)

    async def open(self, group: str, size: int, mark: int = 0) -> Count:
        """Make a group known; one that is open already keeps its counts. Arrivals from the `mark`-th on will say so."""
        hash_key, _, _ = _keys(group)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(hash_key, mapping={"size": str(size), "mark": str(mark)})
                pipe.expire(hash_key, TTL_S)
                pipe.hmget(hash_key, "arrived", "published")
                _, _, (arrived, published) = await pipe.execute()
        except RedisError as error:
            raise _retryable(error) from error
        there = int(arrived or 0)
        return Count(there, size, mark if mark and there >= mark else 0, int(published or 0))

    async def published(self, group: str) -> int:
        """How many of the group's first children are known to be out; 0 where there was always room."""
        try:
            return int(await self._redis.hget(_keys(group)[0], "published") or 0)
        except RedisError as error:
            raise _retryable(error) from error

    async def note_published(self, group: str, children: int) -> None:
        """So many of the group's children are out; where Redis forgets that, they are published again, for nothing."""
        try:
            await self._redis.hset(_keys(group)[0], "published", str(children))
        except RedisError as error:
            raise _retryable(error) from error

    async def arrive(self, group: str, index: int, tally: Tally) -> Count:
        """Count a child, unless it was counted before."""
        try:
            arrived, size, mark = await self._arrive(keys=list(_keys(group)), args=_figures(index, tally))
        except RedisError as error:
            raise _retryable(error) from error
        return Count(int(arrived), int(size), int(mark))

    async def take_back(self, group: str, index: int, tally: Tally) -> bool:
        """Uncount a child, unless that was done before. False where the group is complete, or not known here."""
        try:
            return bool(await self._take_back(keys=list(_keys(group)), args=_figures(index, tally)))
        except RedisError as error:
            raise _retryable(error) from error

    async def totals(self, group: str) -> Totals:
        """All counters of a group; a Count of 0/0 where Redis does not know it."""
        hash_key, _, failures = _keys(group)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(hash_key)
                pipe.lrange(failures, 0, -1)
                raw, indices = await pipe.execute()
        except RedisError as error:
            raise _retryable(error) from error
        values = {key.decode(): int(value) for key, value in raw.items()}
        return Totals(
            Count(values.get("arrived", 0), values.get("size", 0)), _tally(values), sorted(int(i) for i in indices),
            values.get("taken_back", 0),
        )  # fmt: skip

    async def forget(self, group: str) -> None:
        """Drop the counters of a group that has been joined."""
        try:
            await self._redis.delete(*_keys(group))
        except RedisError as error:
            raise _retryable(error) from error


def _figures(index: int, tally: Tally) -> list[str | int]:
    """The arguments of the scripts."""
    usage = tally.usage
    counts = (index, tally.succeeded, tally.failed, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    named = {f"{_REASON}{code}": n for code, n in tally.reasons.items()}
    named |= {f"{_RUNG}{rung}": n for rung, n in tally.rungs.items()}
    pairs = [part for pair in named.items() for part in pair]
    return [*counts, usage.calls, round(usage.cost_usd * NANO), tally.spent_ms, TTL_S, *pairs]


def _tally(values: dict[str, int]) -> Tally:
    usage = Usage(
        prompt_tokens=values.get("prompt_tokens", 0),
        cached_tokens=values.get("cached_tokens", 0),
        completion_tokens=values.get("completion_tokens", 0),
        calls=values.get("calls", 0),
        cost_usd=values.get("cost_nano", 0) / NANO,
    )
    return Tally(
        values.get("succeeded", 0), values.get("failed", 0), usage, _named(values, _REASON), values.get("spent_ms", 0),
        _named(values, _RUNG),
    )  # fmt: skip


def _named(values: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in values.items() if name.startswith(prefix) and n}


def _keys(group: str) -> tuple[str, str, str]:
    return f"group:{{{group}}}", f"group:{{{group}}}:bits", f"group:{{{group}}}:failures"


def _retryable(error: RedisError) -> Retryable:
    if isinstance(error, RedisConnectionError | RedisTimeout):
        return Retryable("Redis does not answer: the server is down or too busy")
    return Retryable(f"Redis: {error}")
