"""A worker of its own process for the step Rerank, which kills itself with kill -9 at a point of *arrive*.

    python dying_worker.py NATS_URL REDIS_URL [POINT]

Points are named by what is done and on which side of it the worker dies, for example `before count`. Without one it
lives.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec
import nats
from redis.asyncio import Redis

from contracts.item import Answer, Item, Usage
from contracts.steps import Rerank
from contracts.task import Tally, Task
from shared import telemetry
from shared.audit import Audit
from shared.bus import Bus
from shared.cancels import Cancels
from shared.delivery import Delivery
from shared.groups import Count, Groups
from shared.hops import Hops
from shared.settings import ServiceSettings
from shared.worker import Worker

COST = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, calls=1, cost_usd=0.25)


class RerankSettings(ServiceSettings):
    service: ClassVar[str] = "rerank"


@dataclass(frozen=True)
class Point:
    name: str

    def reached(self, name: str) -> None:
        if name == self.name:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class MortalBus(Bus):
    point: Point = field(kw_only=True)

    async def publish(
        self, subject: str, payload: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
    ) -> int:
        what = "result" if subject.startswith("results.") else "join" if msg_id.endswith(".join") else "publish"
        self.point.reached(f"before {what}")
        sequence = await super().publish(subject, payload, msg_id=msg_id, headers=headers)
        self.point.reached(f"after {what}")
        return sequence


class MortalGroups(Groups):
    point: Point

    async def arrive(self, group: str, index: int, tally: Tally) -> Count:
        self.point.reached("before count")
        count = await super().arrive(group, index, tally)
        self.point.reached("after count")
        return count


async def answers(task: Task, step: Rerank) -> Sequence[Item]:
    return [
        msgspec.structs.replace(item, usage=COST, answer=Answer(f"answer of process {os.getpid()}"))
        for item in task.items
    ]


async def main(nats_url: str, redis_url: str, name: str = "") -> None:
    point = Point(name)
    done = Delivery.done

    async def mortal_done(delivery: Delivery) -> None:
        point.reached("before acknowledgement")
        await done(delivery)
        point.reached("after acknowledgement")

    Delivery.done = mortal_done  # type: ignore[assignment,method-assign]  # this process is a test
    nc = await nats.connect(nats_url)
    groups = MortalGroups(Redis.from_url(redis_url))
    groups.point = point
    bus = MortalBus(nc, nc.jetstream(), point=point)
    spans = telemetry.start("rerank", "", "dying")
    audit = Audit(bus, "rerank", "dying", spans)
    worker = Worker(RerankSettings(ack_wait_s=1), bus, Hops(bus, groups), audit, Cancels(), spans)
    worker.on(Rerank, answers)
    await worker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
