"""The ledger in Redis, and its twin in memory."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.generate_gpu.domain.ledger import Entry, Paid
from shared.errors import Retryable


@dataclass(frozen=True)
class RedisLedger:
    """One short-lived hash for each shard and hop, a field for each item."""

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
            if name.isdigit()  # earlier versions counted calls here too
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


@dataclass(frozen=True)
class MemoryLedger:
    """Forgets with its process: for engines that cost nothing, and for tests."""

    booked: dict[tuple[str, int], dict[int, Paid]] = field(default_factory=lambda: defaultdict(dict))

    async def read(self, task: str, hop: int) -> dict[int, Paid]:
        return dict(self.booked.get((task, hop), {}))

    async def write(self, entry: Entry, paid: Paid) -> None:
        self.booked.setdefault((entry.task, entry.hop), {})[entry.n] = paid


def _key(task: str, hop: int) -> str:
    return f"paid:{{{task}}}:{hop}"


def _retryable(error: RedisError) -> Retryable:
    return Retryable(f"the ledger in Redis does not answer: {error}")
