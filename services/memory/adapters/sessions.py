"""Sessions in Redis, and their twin in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.item import Usage
from services.memory.domain import Session, Turn
from shared.errors import Retryable

_IDS = 10  # for each turn that is kept, so many ids are: a redelivery that comes late still finds its own

# KEYS: turns (hash id → turn), order (list of ids), used (hash field → sum). ARGV: turns to keep, ids to keep, seconds
# to live, then of each turn id, turn, and what it used: calls, prompt, cached and completion tokens, millionths of a
# dollar. An id that is there already changes nothing. Of turns that fall out the id stays for a while, not the text.
_APPEND = """
local kept, ids, added = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
local fields = {'calls', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'microdollars'}
for i = 4, #ARGV, 7 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
    local length = redis.call('RPUSH', KEYS[2], ARGV[i])
    added = added + 1
    for f = 1, 5 do
      if ARGV[i + 1 + f] ~= '0' then
        redis.call('HINCRBY', KEYS[3], fields[f], ARGV[i + 1 + f])
      end
    end
    if length > kept then
      redis.call('HSET', KEYS[1], redis.call('LINDEX', KEYS[2], -kept - 1), '')
    end
    if length > ids then
      redis.call('HDEL', KEYS[1], redis.call('LPOP', KEYS[2]))
    end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return added
"""


@dataclass(frozen=True)
class RedisSessions:
    """Three keys a session: its turns by id, the order of the ids, and what it has used."""

    redis: "Redis"
    kept: int = 20
    ttl_s: int = 7 * 24 * 3600

    async def last(self, session: Session, turns: int) -> list[Turn]:
        wanted = min(turns, self.kept)
        if wanted < 1:
            return []
        texts, order, _ = _keys(session)
        try:
            ids: Sequence[Any] = await self.redis.lrange(order, -wanted, -1)
            found: Sequence[Any] = await self.redis.hmget(texts, list(ids)) if ids else []
        except RedisError as error:
            raise _retryable(error) from error
        return [msgspec.msgpack.decode(turn, type=Turn) for turn in found if turn]

    async def append(self, session: Session, turns: Sequence[tuple[str, Turn]]) -> int:
        values = [value for name, turn in turns for value in (name, msgspec.msgpack.encode(turn), *_sums(turn.usage))]
        script: Any = self.redis.register_script(_APPEND)
        try:
            added = await script(keys=_keys(session), args=[self.kept, self.kept * _IDS, self.ttl_s, *values])
        except RedisError as error:
            raise _retryable(error) from error
        return int(added)

    async def used(self, session: Session) -> Usage:
        try:
            found: Mapping[Any, Any] = await self.redis.hgetall(_keys(session)[2])
        except RedisError as error:
            raise _retryable(error) from error
        sums = {name.decode(): int(value) for name, value in found.items()}
        dollars = sums.pop("microdollars", 0) / 1_000_000
        return msgspec.convert({**sums, "cost_usd": dollars}, Usage)


@dataclass(frozen=True)
class MemorySessions:
    """Forgets with its process: for tests, and it never ages."""

    kept: int = 20
    sessions: dict[Session, dict[str, Turn]] = field(default_factory=dict)
    sums: dict[Session, Usage] = field(default_factory=dict)

    async def last(self, session: Session, turns: int) -> list[Turn]:
        wanted = min(turns, self.kept)
        return list(self.sessions.get(session, {}).values())[-wanted:] if wanted > 0 else []

    async def append(self, session: Session, turns: Sequence[tuple[str, Turn]]) -> int:
        known = self.sessions.setdefault(session, {})
        new = {name: turn for name, turn in turns if name not in known}
        known.update(new)
        self.sums[session] = sum((turn.usage for turn in new.values()), self.sums.get(session, Usage()))
        return len(new)

    async def used(self, session: Session) -> Usage:
        return self.sums.get(session, Usage())


def _keys(session: Session) -> tuple[str, str, str]:
    base = f"memory:{{{session.tenant}/{session.name}}}"  # the braces keep all keys on one node of a cluster
    return f"{base}:turns", f"{base}:order", f"{base}:used"


def _sums(used: Usage) -> tuple[int, ...]:
    dollars = round(used.cost_usd * 1_000_000)
    return used.calls, used.prompt_tokens, used.cached_tokens, used.completion_tokens, dollars


def _retryable(error: RedisError) -> Retryable:
    return Retryable(f"Redis does not keep the session: {error}")
