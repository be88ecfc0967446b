"""A job under torment, seen from outside."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import nats
from nats.errors import Error as NatsError

from client.client import Penstock
from contracts import subjects
from contracts.item import Input
from contracts.job import JobOpened, JobReport, Options, ShardResult
from contracts.subjects import RESULTS, WORK
from loadtest.chaos.verdict import Found
from shared.bus import Bus, answered
from shared.errors import PenstockError

QUESTIONS = (
    "Does plan HMO-483 cover physiotherapy after ACL surgery?",
    "How many days of annual leave may be carried over?",
    "What does a pH electrode cost?",
    "For how long are backups kept?",
)
AWAY = (TimeoutError, PenstockError, NatsError)
"""What a server that is coming back makes of a question."""
_LOOK_S = 0.25


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[Bus]:
    """A connection that sees all streams, not those of one tenant alone."""
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.5, error_cb=_quiet)
    yield Bus.on(nc)
    await nc.close()


async def until_quiet(bus: Bus, seconds: float) -> None:
    """Redelivered and repeated work may still come in: none of it may change anything."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = (await answered(bus.js.stream_info(WORK.name))).state
        if state.messages == 0:
            return
        await asyncio.sleep(_LOOK_S)


@dataclass
class WatchedJob:
    """`first` is the number in the text of its first item: the model counts its calls by these."""

    penstock: Penstock
    bus: Bus
    name: str
    items: int
    pattern: str = "rag"
    first: int = 0
    shards: list[ShardResult] = field(default_factory=list)  # as `found` has read them
    _size: int = 0  # of a shard; 0: not known yet

    async def submit(self) -> None:
        numbers = range(self.first, self.first + self.items)
        items = [Input(question=f"{QUESTIONS[n % len(QUESTIONS)]} (item-{n})", id=f"item-{n}") for n in numbers]
        options = Options(model="chaotic", when_ungrounded="mark", cache="off")
        await self.penstock.submit(self.pattern, items, options, self.name, lane="batch")

    async def arrived(self) -> int:
        """How many items have results, to a shard. Raises what AWAY names."""
        shards = [name for name in await self.messages() if name.isdecimal()]
        if shards and not self._size:
            opened = await self.bus.last(RESULTS, subjects.result(self.penstock.tenant, self.name, "open"))
            count = msgspec.json.decode(opened.data or b"", type=JobOpened).shards if opened else 1
            self._size = -(-self.items // count)
        return min(self.items, len(shards) * self._size)

    async def report(self) -> JobReport | None:
        """None where it is not there, or cannot be asked for now."""
        try:
            return await self.penstock.find_report(self.name)
        except AWAY:
            return None

    async def found(self) -> Found:
        """What is stored of it."""
        self.shards = [shard async for shard in self.penstock.stored_results(self.name)]
        return Found(await self.report(), self.shards, await self.messages())

    async def messages(self) -> dict[str, int]:
        """How many messages each subject of the job's results has, by the subject's last token."""
        wanted = subjects.result(self.penstock.tenant, self.name, "*")
        info = await answered(self.bus.js.stream_info(RESULTS.name, subjects_filter=wanted))
        return {name.rpartition(".")[2]: count for name, count in (info.state.subjects or {}).items()}


def reasons(shards: Sequence[ShardResult]) -> list[str]:
    """Why items failed."""
    return [f"{i.failure.code}: {i.failure.reason}" for shard in shards for i in shard.items if i.failure]


async def _quiet(_: Exception) -> None:
    """Connections are cut on purpose."""
