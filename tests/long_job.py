"""A job of many items through services in processes of their own, on whatever servers a test gives and breaks."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from client.client import Penstock
from client.stack.config import SERVICES
from client.submission import new_job_id
from contracts import subjects
from contracts.item import Input
from contracts.job import JobReport, Options, ShardResult
from contracts.subjects import RESULTS
from loadtest.chaos.model import ChaoticModel, chaotic
from loadtest.chaos.verdict import Found, Verdict, verdict
from shared.bus import answered
from shared.errors import PenstockError

NEEDED = ("route", "generate")
_LOOK_S = 0.2

T = TypeVar("T")


@contextmanager
def processes(folder: Path, environment: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """These services, each with its own settings; they end with `kill -9`."""
    running = []
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    try:
        for service, settings in environment.items():
            log = (folder / f"{service}.log").open("wb")
            command = [sys.executable, "-m", SERVICES[service]]
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env={**plain, **settings}))
        yield
    finally:
        for process in running:
            process.kill()
            process.wait(10)


@dataclass
class LongJob:
    """A job of the pattern `direct` whose answers come only as far as they are allowed."""

    penstock: Penstock
    model: ChaoticModel
    items: int
    id: str = field(default_factory=new_job_id)  # streams remember ids after they are emptied

    async def submit(self) -> None:
        questions = [Input(question=f"What was asked as item-{n}?", id=f"item-{n}") for n in range(self.items)]
        await self.penstock.submit("direct", questions, Options(model="chaotic"), self.id, lane="batch")

    async def until_answered(self, share: float, seconds: float = 60) -> None:
        """Let the model answer so many, and wait until it has."""
        self.model.allowed = self.items * share
        until = time.monotonic() + seconds
        while len(self.model.sold) < self.items * share:
            assert time.monotonic() < until, f"{len(self.model.sold)} of {self.items} were answered"
            await asyncio.sleep(_LOOK_S)

    async def end(self, seconds: float) -> tuple[JobReport, Verdict]:
        """The report, and what is found when nothing moves any more."""
        self.model.allowed = float("inf")
        report = await self._patiently(lambda: self.penstock.report(self.id, seconds))
        shards = await self._patiently(self._shards)
        wanted = subjects.result(self.penstock.tenant, self.id, "*")
        info = await answered(self.penstock.bus.js.stream_info(RESULTS.name, subjects_filter=wanted))
        messages = {name.rpartition(".")[2]: count for name, count in (info.state.subjects or {}).items()}
        return report, verdict(self.items, Found(report, shards, messages))

    async def _shards(self) -> list[ShardResult]:
        return [shard async for shard in self.penstock.stored_results(self.id)]

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A client that reads just while its server dies tries again."""
        for _ in range(5):
            try:
                return await call()
            except PenstockError:
                await asyncio.sleep(1)
        return await call()


@asynccontextmanager
async def long_job(
    folder: Path, items: int, client_url: str, nats_urls: Mapping[str, str], redis_url: str, **settings: str
) -> AsyncIterator[LongJob]:
    """A client, a model that counts what it sells, and the services that such a job needs."""
    model = chaotic(1, 0.0)
    async with model.running():
        catalogue = folder / "models.yaml"
        catalogue.write_text(model.catalogue)
        common = {"PENSTOCK_MODELS": str(catalogue), "PENSTOCK_REDIS_URL": redis_url, **settings}
        each = {
            name: {**common, "PENSTOCK_NATS_URL": nats_urls[name], f"PENSTOCK_{name.upper()}_ACK_WAIT_S": "5"}
            for name in NEEDED
        }
        with processes(folder, each):
            async with await Penstock.connect(client_url) as penstock:
                yield LongJob(penstock, model, items)
