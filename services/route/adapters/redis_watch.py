"""Notices that Redis has lost what it knew, and has every group recounted that still waits.

A server that was restarted may lack its last second of writes, and one that was emptied lacks everything. Bits of
children that are long acknowledged are missing then, and nothing would set them again before the groups' alarms. So a
key in Redis itself says of which run of the server all groups have been counted: where it is missing, or names another
run, they are counted anew from their streams.
"""

import asyncio
import logging
from dataclasses import dataclass
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.subjects import PARKED
from shared.bus import answered
from shared.errors import PenstockError
from shared.hops import Hops

log = logging.getLogger("penstock.redis_watch")

COUNTED = "route:counted"  # the run of the server in which all groups have been counted
COUNTING = "route:counting"  # who counts: gone with the rest, where Redis is emptied meanwhile

_AT_ONCE = 16
_PREFIX = f"$KV.{PARKED.name}."
_DONE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[2], ARGV[2]) end return 1"


@dataclass(frozen=True)
class RedisWatch:
    """Looks every `every_s` seconds. Replicas of route do not disturb each other: recounting may be repeated."""

    hops: Hops
    redis: "Redis"
    every_s: float = 1.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            try:
                await self.look()
            except (PenstockError, RedisError) as error:
                log.info("cannot look after the groups now: %s", error)
            except Exception:  # a fault of ours: who watches must not stop watching
                log.exception("cannot look after the groups")

    async def look(self) -> bool:
        """Recount all groups where Redis is not what it was; says whether that was so."""
        server = str((await self.redis.info("server"))["run_id"])
        if await self.redis.get(COUNTED) == server.encode():
            return False
        mine = uuid4().hex
        await self.redis.set(COUNTING, mine)
        groups = await self._waiting()
        log.warning("Redis was restarted or emptied: %d groups are counted anew", len(groups))
        for start in range(0, len(groups), _AT_ONCE):
            await asyncio.gather(*(self.hops.expire(group, {}) for group in groups[start : start + _AT_ONCE]))
        await self.redis.eval(_DONE, 2, COUNTING, COUNTED, mine, server)
        return True

    async def _waiting(self) -> list[str]:
        """All groups for which something is parked, and some that have gone on within the hour."""
        info = await answered(self.hops.bus.js.stream_info(f"KV_{PARKED.name}", subjects_filter=f"{_PREFIX}>"))
        keys = (subject.removeprefix(_PREFIX) for subject in info.state.subjects or {})
        return sorted(key for key in keys if not key.endswith("/window"))
