"""Limits and budgets in Redis: one script for everything, so that replicas cannot overshoot together."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.generate_gpu.domain.limits import LONGEST_S, NANO, Ask, Limiter, Shard, Spent, Taken
from shared.errors import Retryable
from shared.limits import BatchRules, Scope

_SEEN = "{limits}:seen"  # a sorted set: keys of scopes by their last use
_SEEN_S = 35 * 24 * 3600.0

_SCRIPT = (Path(__file__).parent / "limits.lua").read_text(encoding="utf-8")

T = TypeVar("T")


class Bound(Struct, frozen=True):
    """An allowance as the script takes it; -1: no limit. Budgets in nano dollars."""

    rpm: int = -1
    tpm: int = -1
    rpd: int = -1
    usd_day: int = -1
    usd_month: int = -1


class _Request(Struct, frozen=True):
    """What every operation is told."""

    window_s: int  # of the limits by minute


class _Take(_Request, frozen=True):
    id: str
    line: str
    lane: Literal["interactive", "batch"]
    share: float
    longest_s: float
    reserve_s: float
    asks: list[Ask]
    bounds: list[Bound]


class _Settle(_Request, frozen=True):
    id: str
    keep_s: int
    unused: list[int]
    spent: list[Spent]
    bounds: list[Bound]


class Used(Struct, frozen=True):
    """What a scope has used of its limits, and how many calls wait for it; money in nano dollars."""

    requests: int
    tokens: int
    today: int
    day: int
    month: int
    held: int
    interactive: int
    batch: int


class Seen(Struct, frozen=True):
    """What scopes have used, in their order, and Redis's time in unix seconds."""

    now: float
    scopes: list[Used]


class _Look(_Request, frozen=True):
    scopes: int


class RedisLimiter(Limiter):
    """One round trip for the calls of a whole shard, and one once they are done."""

    def __init__(self, redis: "Redis", rules: BatchRules, reserve_s: float, keep_s: int, window_s: int = 60) -> None:
        """`keep_s`: for how long a shard may be redelivered that was charged."""
        self._redis = redis
        self._rules = rules
        self._reserve_s = reserve_s
        self._keep_s = keep_s
        self._window_s = window_s
        self._script = redis.register_script(_SCRIPT)

    async def take(self, shard: Shard, asks: Sequence[Ask], line: str = "") -> Taken:
        request = _Take(
            window_s=self._window_s,
            id=shard.id,
            line=line or shard.id,
            lane="batch" if shard.batch else "interactive",
            share=self._rules.share,
            longest_s=LONGEST_S,
            reserve_s=self._reserve_s,
            asks=list(asks),
            bounds=[_bound(scope) for scope in shard.scopes],
        )
        return await self._run("take", _keys(shard.scopes), request, Taken)

    async def settle(self, shard: Shard, spent: Sequence[Spent], unused: Sequence[float] = ()) -> None:
        request = _Settle(
            window_s=self._window_s,
            id=shard.id,
            keep_s=self._keep_s,
            unused=[int(at) for at in unused],
            spent=list(spent),
            bounds=[_bound(scope) for scope in shard.scopes],
        )
        charged = f"{{limits}}:charged:{shard.id}" + (f":{shard.account}" if shard.account else "")
        await self._run("settle", [*_keys(shard.scopes), charged], request, list[None])

    async def look(self, scopes: Sequence[Scope]) -> Seen:
        """What these have used. Raises Retryable."""
        return await self._run("look", _keys(scopes), _Look(self._window_s, len(scopes)), Seen)

    async def users(self, tenant: str) -> list[str]:
        """Users who have used something in the last days; an empty name stands for jobs that name none."""
        try:
            await self._redis.zremrangebyscore(_SEEN, "-inf", time.time() - _SEEN_S)
            keys = [str(key, "utf-8") for key in await self._redis.zrange(_SEEN, 0, -1) if isinstance(key, bytes)]
        except RedisError as error:
            raise _retryable(error) from error
        start = _key("user", f"{tenant}/")
        return [key.removeprefix(start) for key in keys if key.startswith(start)]

    async def _run(self, operation: str, keys: Sequence[str], request: Struct, form: type[T]) -> T:
        try:
            reply: bytes = await self._script(keys=keys, args=[operation, msgspec.msgpack.encode(request)])
        except RedisError as error:
            raise _retryable(error) from error
        return msgspec.msgpack.decode(reply, type=form)


def _bound(scope: Scope) -> Bound:
    allowance = scope.allowance

    def whole(value: int | None) -> int:
        return -1 if value is None else value

    def nano(value: float | None) -> int:
        return -1 if value is None else round(value * NANO)

    calls = (whole(allowance.rpm), whole(allowance.tpm), whole(allowance.rpd))
    return Bound(*calls, nano(allowance.usd_day), nano(allowance.usd_month))


def _keys(scopes: Sequence[Scope]) -> list[str]:
    """Of one hash slot, so that the script may write beside them."""
    return [_key(scope.kind, scope.name) for scope in scopes]


def _key(kind: str, name: str) -> str:
    return f"{{limits}}:{kind}:{name}"


def _retryable(error: RedisError) -> Retryable:
    return Retryable(f"the limits in Redis do not answer: {error}")
