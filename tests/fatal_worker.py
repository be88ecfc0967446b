"""A worker process that dies of the first message it gets; arguments: NATS, Redis, attempts, ack_wait_s."""

import asyncio
import os
import sys
from collections.abc import Sequence

from in_process import RerankSettings, telemetry_of
from nats import connect
from redis.asyncio import Redis

from contracts.item import Item
from contracts.steps import Rerank
from contracts.task import Task
from shared.audit import Audit
from shared.bus import Bus
from shared.cancels import Cancels
from shared.groups import Groups
from shared.hops import Hops
from shared.worker import Worker


async def dies(task: Task, step: Rerank) -> Sequence[Item]:
    os._exit(9)


async def main(nats_url: str, redis_url: str, attempts: str, ack_wait_s: str) -> None:
    bus = Bus.on(await connect(nats_url))
    spans = telemetry_of("rerank")
    settings = RerankSettings(attempts=int(attempts), ack_wait_s=float(ack_wait_s))
    hops = Hops(bus, Groups(Redis.from_url(redis_url)))
    worker = Worker(settings, bus, hops, Audit(bus, "rerank", "dying", spans), Cancels(), spans)
    worker.on(Rerank, dies)
    await worker.start()
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
