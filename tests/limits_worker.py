"""A process that takes from limits as fast as it can, once it is told to on stdin: `REDIS_URL SHARDS`.

Prints how many calls, tokens and nano dollars it was granted.
"""

import asyncio
import os
import random
import sys

from redis.asyncio import Redis

from services.generate_gpu.adapters.limits import RedisLimiter
from services.generate_gpu.domain.limits import Ask, Shard
from shared.limits import Allowance, BatchRules, Scope

CALLS, TOKENS = 500, 40_000
SCOPES = (
    Scope("tenant", "acme", Allowance(rpm=CALLS, tpm=TOKENS, usd_day=1.0)),
    Scope("user", "acme/ann", Allowance(rpd=CALLS)),
    Scope("model", "large", Allowance(rpm=CALLS * 2)),
)


async def main(url: str, shards: int) -> None:
    redis: Redis = Redis.from_url(url)
    limiter = RedisLimiter(redis, BatchRules(), reserve_s=900, keep_s=3600, window_s=3600)
    await redis.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    calls = tokens = nano = 0
    for index in range(shards):
        asks = [Ask(n, random.randint(50, 150), 1_000_000, patience_s=0) for n in range(random.randint(1, 15))]
        taken = await limiter.take(Shard(f"{os.getpid()}/{index}", SCOPES, batch=False), asks)
        granted = [ask for ask in asks if ask.n in taken.granted]
        calls += len(granted)
        tokens += sum(ask.tokens for ask in granted)
        nano += sum(ask.nano for ask in granted)
    print(calls, tokens, nano)
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
