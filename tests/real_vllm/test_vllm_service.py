"""Two generate services with real engines and one route: the whole way of a question, and the death of a replica."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from servers import start_nats, start_redis

from client.client import Penstock
from contracts import subjects
from contracts.events import Hop, Replica
from contracts.item import Input
from contracts.job import Options, ShardResult, TokenDelta

pytestmark = [pytest.mark.vllm, pytest.mark.servers, pytest.mark.timeout(400)]

MANUAL = " ".join(f"Section {n}: in case {n} somebody is told about it." for n in range(40))
_START_S = 240.0

CATALOGUE = """\
models:
  - name: house
    engine: vllm
    id: {id}
    context: 2048
    default: true
    settings: {{enforce_eager: true, block_size: 32, dtype: float32}}
"""


@dataclass
class Stack:
    """Servers, processes, and what the replicas have said last."""

    url: str
    processes: dict[str, "subprocess.Popen[bytes]"]
    penstock: Penstock
    replicas: dict[str, Replica]

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


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with ExitStack() as both:
        nats = both.enter_context(start_nats(tmp_path_factory.mktemp("nats")))
        redis = both.enter_context(start_redis(tmp_path_factory.mktemp("redis")))
        yield nats.url, redis


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(
    servers: tuple[str, str], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    nats_url, redis_url = servers
    place = tmp_path_factory.mktemp("stack")
    (place / "models.yaml").write_text(CATALOGUE.format(id=folder / "tiny"), encoding="utf-8")
    environment = {
        **os.environ, "PENSTOCK_NATS_URL": nats_url, "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_MODELS": str(place / "models.yaml"), "PENSTOCK_DATA": str(place),
        "PENSTOCK_GENERATE_ACK_WAIT_S": "120",
    }  # fmt: skip
    processes = {}
    for name, module in (("route", "route"), ("one", "generate_gpu"), ("two", "generate_gpu")):
        with (place / f"{name}.log").open("wb") as log:
            processes[name] = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
                [sys.executable, "-m", f"services.{module}.app"], env=environment, stdout=log, stderr=log
            )
    penstock = await Penstock.connect(nats_url)
    replicas: dict[str, Replica] = {}

    async def hear(message: Msg) -> None:
        if message.data:
            replica = msgspec.json.decode(message.data, type=Replica)
            replicas[replica.name] = replica

    await penstock.nc.subscribe(subjects.replica("*"), cb=hear)
    try:
        async with asyncio.timeout(_START_S):
            while len(replicas) < 2:  # noqa: ASYNC110 - they say so themselves, a callback hears it
                await asyncio.sleep(0.2)
        yield Stack(nats_url, processes, penstock, replicas)
    finally:
        await penstock.close()
        for process in processes.values():
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """kill -9; the engine's own processes end with it, or their memory would be lost to the next."""
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        _, left = psutil.wait_procs(children, timeout=20)
        assert left == []
    process.wait(10)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for has no events
            await asyncio.sleep(0.05)


async def test_a_question_streams_and_its_time_to_first_token_counts_from_its_submission(stack: Stack) -> None:
    result, hop, deltas = await stack.ask("How many days?")
    answer = result.items[0].answer
    assert answer is not None
    assert answer.text == "".join(delta.text for delta in deltas)
    assert [delta.index for delta in deltas] == list(range(len(deltas)))
    assert [delta.tokens for delta in deltas] == sorted(delta.tokens for delta in deltas)
    assert deltas[-1].finish_reason == answer.finish_reason
    assert deltas[-1].tokens == hop.usage.completion_tokens
    assert hop.ttft_ms > hop.prefill_ms > 0
    assert hop.decode_ms > 0


async def test_follow_ups_meet_the_replica_that_knows_the_manual_and_tenants_do_not_meet(stack: Stack) -> None:
    asked = [await stack.ask(f"Question {n}?", tenant="acme") for n in range(4)]
    assert len({hop.replica for _, hop, _ in asked}) == 1
    cached = [result.items[0].usage.cached_tokens for result, _, _ in asked]
    assert cached[0] == 0
    assert all(tokens > 500 for tokens in cached[1:])
    other, _, _ = await stack.ask("Question 0?", tenant="globex")
    assert other.items[0].usage.cached_tokens == 0


async def test_questions_of_a_replica_that_dies_are_answered_by_the_other(stack: Stack) -> None:
    _, hop, _ = await stack.ask("Where is it?", tenant="acme")
    pid = int(hop.replica.rpartition("-")[2])
    name = next(name for name, process in stack.processes.items() if process.pid == pid)
    penstock = Penstock(stack.penstock.nc, "acme")
    options = Options(prompt="policy", max_tokens=300)
    items = [Input(question=f"Long {n}?", variables={"manual": MANUAL}) for n in range(3)]
    answered_by: set[str] = set()

    async def hear(message: Msg) -> None:
        done = msgspec.json.decode(message.data, type=Hop)
        answered_by.update([done.replica] if done.step == "generate" else [])

    await stack.penstock.nc.subscribe("events.acme.*", cb=hear)
    jobs = [(await penstock.submit("direct", [item], options, lane="interactive")).job for item in items]
    await asyncio.sleep(0.3)  # some of them are with the replica by now; which does not matter
    kill(stack.processes[name])
    results = [await stack.result("acme", job) for job in jobs]
    assert all(result.items[0].answer is not None for result in results)
    await until(lambda: bool(answered_by - {hop.replica}))
