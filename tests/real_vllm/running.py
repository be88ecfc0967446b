"""A stack in processes of its own: servers, route, memory, and two generate services with real engines."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
from nats.aio.msg import Msg

from client.client import Penstock
from contracts import subjects
from contracts.events import Hop, Replica
from contracts.item import Input
from contracts.job import ItemResult, Options, ShardResult, TokenDelta

MANUAL = " ".join(f"Section {n}: in case {n} somebody is told about it." for n in range(40))
START_S = 900.0  # on a machine that others use, too, an engine takes minutes

CATALOGUE = """\
models:
  - name: house
    engine: vllm
    id: {folder}/tiny
    context: 2048
    default: true
    tools: llama3_json
    settings: {{enforce_eager: true, block_size: 32, dtype: float32}}
  - {{name: hr, engine: vllm, id: {folder}/tiny, context: 2048, adapter: {folder}/first, expert: leave and payroll}}
  - {{name: finance, engine: vllm, id: {folder}/tiny, context: 2048, adapter: {folder}/second, expert: ledger}}
"""


@dataclass
class Stack:
    """Servers, processes, and what the replicas have said last."""

    environment: dict[str, str]
    place: Path
    penstock: Penstock
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    answered_by: dict[str, int] = field(default_factory=dict)  # which process, by job

    def start(self, name: str, module: str, **environment: str) -> None:
        """A process of a service; what it says stands in <name>.log."""
        with (self.place / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"services.{module}.app"],
                env=self.environment | environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def one(self, pattern: str, item: Input, options: Options, tenant: str = "default") -> ItemResult:
        """The result of a job of one item."""
        receipt = await Penstock(self.penstock.nc, tenant).submit(pattern, [item], options, lane="interactive")
        return (await self.result(tenant, receipt.job)).items[0]

    async def ask(self, question: str, tenant: str = "default") -> tuple[ShardResult, Hop, list[TokenDelta]]:
        """A question on the manual: its result, generate's record of it, and its stream."""
        deltas: list[TokenDelta] = []
        hops: list[Hop] = []

        async def hear(message: Msg) -> None:
            hop = msgspec.json.decode(message.data, type=Hop)
            hops.extend([hop] if hop.step == "generate" else [])

        async def read(message: Msg) -> None:
            deltas.append(msgspec.json.decode(message.data, type=TokenDelta))

        nc = self.penstock.nc
        heard = await nc.subscribe(f"events.{tenant}.*", cb=hear)
        streams = await nc.subscribe(f"tokens.{tenant}.*.*", cb=read)
        penstock = Penstock(nc, tenant)
        item = Input(question=question, variables={"manual": MANUAL})
        options = Options(prompt="policy", max_tokens=12, stream=True)
        receipt = await penstock.submit("direct", [item], options, lane="interactive")
        result = await self.result(tenant, receipt.job)
        await until(lambda: bool(hops) and bool(deltas) and bool(deltas[-1].finish_reason))
        await heard.unsubscribe()
        await streams.unsubscribe()
        return result, hops[0], deltas

    async def result(self, tenant: str, job: str) -> ShardResult:
        for _ in range(1200):
            message = await self.penstock.bus.last(subjects.RESULTS, subjects.result(tenant, job, 0))
            if message is not None:
                return msgspec.json.decode(message.data or b"", type=ShardResult)
            await asyncio.sleep(0.1)
        raise AssertionError(f"no result of {job} within two minutes")


@asynccontextmanager
async def running(nats_url: str, redis_url: str, folder: Path, place: Path) -> AsyncIterator[Stack]:
    """Start everything and wait until both replicas say that they are alive."""
    (place / "models.yaml").write_text(CATALOGUE.format(folder=folder), encoding="utf-8")
    environment = {
        **os.environ, "PENSTOCK_NATS_URL": nats_url, "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_MODELS": str(place / "models.yaml"), "PENSTOCK_DATA": str(place),
        "PENSTOCK_GENERATE_ACK_WAIT_S": "120",
    }  # fmt: skip
    stack = Stack(environment, place, await Penstock.connect(nats_url))
    try:
        for name in ("route", "memory"):
            stack.start(name, name)
        for name in ("one", "two"):
            stack.start(name, "generate_gpu")

        async def hear(message: Msg) -> None:
            if message.data:
                replica = msgspec.json.decode(message.data, type=Replica)
                stack.replicas[replica.name] = replica

        async def note(message: Msg) -> None:
            hop = msgspec.json.decode(message.data, type=Hop)
            if hop.step == "generate":
                stack.answered_by[hop.job] = int(hop.replica.rpartition("-")[2])

        await stack.penstock.nc.subscribe(subjects.replica("*"), cb=hear)
        await stack.penstock.nc.subscribe("events.*.*", cb=note)
        await until(lambda: len(stack.replicas) == 2, START_S)
        yield stack
    finally:
        await stack.penstock.close()
        left = [child for process in stack.processes.values() for child in killed(process)]
        assert left == []


def kill(process: "subprocess.Popen[bytes]") -> None:
    """kill -9; the engine's own processes end with it, or their memory would be lost to the next."""
    assert killed(process) == []


def killed(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Of the engine's own processes those that are left some time after a kill -9; they are ended, too."""
    if process.poll() is not None:
        return []
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(10)
    _, left = psutil.wait_procs(children, timeout=60)
    for child in left:
        child.kill()
    return left


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for has no events
            await asyncio.sleep(0.05)
