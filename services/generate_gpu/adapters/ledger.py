"""The ledger in Redis, and its twin in memory."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.generate_gpu.domain.ledger import Entry, Ledger, Paid
from shared.errors import Retryable

_CALLS = b"calls:"


@dataclass(frozen=True)
class RedisLedger:
    """One short-lived hash for each shard and hop: a field for each item, and one for its count of calls."""

    redis: "Redis"
    ttl_s: int

    async def read(self, task: str, hop: int) -> dict[int, Paid]:
        key = _key(task, hop)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(key)
                pipe.expire(key, self.ttl_s)  # a shard may wait for its limits longer than that
                found = await pipe.execute()
        except RedisError as error:
            raise _retryable(error) from error
        fields: Mapping[Any, Any] = found[0]
        return {
            int(name): msgspec.msgpack.decode(value, type=Paid)
            for name, value in fields.items()
            if not name.startswith(_CALLS)
        }

    async def write(self, entry: Entry, paid: Paid) -> None:
        key = _key(entry.task, entry.hop)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hset(key, str(entry.n), msgspec.msgpack.encode(paid))
                pipe.expire(key, self.ttl_s)
                await pipe.execute()
        except RedisError as error:
            raise _retryable(error) from error

    async def begin(self, entry: Entry) -> int:
        key = _key(entry.task, entry.hop)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hincrby(key, f"{_CALLS.decode()}{entry.n}", 1)
                pipe.expire(key, self.ttl_s)
                calls, _ = await pipe.execute()
        except RedisError as error:
            raise _retryable(error) from error
        return int(calls)


@dataclass(frozen=True)
class MemoryLedger:
    """Forgets with its process: for engines that cost nothing, and for tests."""

    booked: dict[tuple[str, int], dict[int, Paid]] = field(default_factory=lambda: defaultdict(dict))
    calls: Counter[Entry] = field(default_factory=Counter)

    async def read(self, task: str, hop: int) -> dict[int, Paid]:
        return dict(self.booked.get((task, hop), {}))

    async def write(self, entry: Entry, paid: Paid) -> None:
        self.booked.setdefault((entry.task, entry.hop), {})[entry.n] = paid

    async def begin(self, entry: Entry) -> int:
        self.calls[entry] += 1
        return self.calls[entry]


@dataclass(frozen=True)
class CountOnly:
    """Books nothing and counts calls: engines that cost nothing still number the attempts of their streams."""

    counter: Ledger

    async def read(self, task: str, hop: int) -> dict[int, Paid]:
        return {}

    async def write(self, entry: Entry, paid: Paid) -> None:
        """There is nothing to book."""

    async def begin(self, entry: Entry) -> int:
        return await self.counter.begin(entry)


def _key(task: str, hop: int) -> str:
    return f"paid:{{{task}}}:{hop}"


def _retryable(error: RedisError) -> Retryable:
    return Retryable(f"the ledger in Redis does not answer: {error}")
