"""SIGTERM on real processes: the first drains, and nothing comes twice; the second leaves at once, losing nothing."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from in_process import Core, eventually

from client.client import Penstock, Receipt
from contracts import subjects
from contracts.events import Hop
from contracts.item import Input
from contracts.job import Options
from contracts.subjects import EVENTS, WORK
from loadtest.scripted_model import Reply, ScriptedModel

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
MODULES = {
    "route": "services.route.app",
    "generate": "services.generate_gpu.app",
    "keeping": "tests.keeping_process",
}
MODELS = """
models:
  - {{name: extractive, engine: extractive, context: 1000000, default: true}}
  - {{name: scripted, engine: openai, base_url: {url}, id: scripted-1, context: 32000}}
"""
READY_S = 60.0
ITEMS = 20


class Replicas:
    """Processes of services on the test's own servers."""

    def __init__(self, core: Core, redis_url: str, folder: Path, model: ScriptedModel) -> None:
        models = folder / "models.yaml"
        models.write_text(MODELS.format(url=model.url))
        self._folder = folder
        self._running: list[asyncio.subprocess.Process] = []
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environment = clean | {
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_NATS_URL": core.url,
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA": str(folder),
            "PENSTOCK_MODELS": str(models),
            "PENSTOCK_ROUTE_SHARD_SIZE": "4",
            "PENSTOCK_ROUTE_SHARD_MOST": "4",
        }

    async def start(self, service: str) -> asyncio.subprocess.Process:
        """Returns when the service says that it is ready."""
        log = self._folder / f"{service}-{len(self._running)}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULES[service], cwd=ROOT, env=self._environment, stdout=out, stderr=out
            )
        self._running.append(process)
        await eventually(lambda: "is ready" in log.read_text() or process.returncode is not None, READY_S)
        assert process.returncode is None, log.read_text()
        return process

    async def end(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel.running() as serving:
        yield serving


@pytest.fixture
async def replicas(core: Core, redis_server: str, tmp_path: Path, model: ScriptedModel) -> AsyncIterator[Replicas]:
    found = Replicas(core, redis_server, tmp_path, model)
    yield found
    await found.end()


async def test_a_rolling_restart_under_load_delivers_nothing_twice(
    core: Core, replicas: Replicas, model: ScriptedModel
) -> None:
    model.when("question", Reply("Fine.", delay_s=0.3))
    running = [(name, await replicas.start(name)) for name in ("route", "generate", "generate", "route")]
    receipts: list[Receipt] = []
    async with await Penstock.connect(core.url, core.tenant) as penstock:
        enough = asyncio.Event()

        async def keep_busy() -> None:
            while not enough.is_set():
                receipts.append(await _submit(penstock, ITEMS))
                await asyncio.sleep(0.3)

        load = asyncio.create_task(keep_busy())
        for place, (name, process) in enumerate(running):
            before = model.calls()
            await eventually(lambda before=before: model.calls() > before + ITEMS)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
            running[place] = name, await replicas.start(name)
        enough.set()  # not cancelled: a job may be there already whose receipt is still on its way
        await load
        reports = [await penstock.report(receipt, timeout_s=60) for receipt in receipts]
    assert {(report.state, report.succeeded, report.failed) for report in reports} == {("done", ITEMS, 0)}
    assert model.calls() == ITEMS * len(receipts)
    hops = await _hops(core)
    assert {hop.step for hop in hops} == {"open", "render", "generate", "report"}
    assert [hop for hop in hops if hop.attempt > 1] == []


async def test_a_second_sigterm_leaves_at_once_and_another_replica_finishes(
    core: Core, replicas: Replicas, model: ScriptedModel
) -> None:
    model.when("question", Reply(fault="hang"), "Fine.")
    await replicas.start("route")
    first = await replicas.start("generate")
    async with await Penstock.connect(core.url, core.tenant) as penstock:
        receipt = await _submit(penstock, 1)
        await eventually(lambda: model.calls() == 1)
        first.send_signal(signal.SIGTERM)
        await asyncio.sleep(1)
        assert first.returncode is None  # it waits for what runs
        began = time.monotonic()
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.wait(), 10) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 5
        await replicas.start("generate")
        report = await penstock.report(receipt, timeout_s=20)  # less than ack_wait: it was given back, not forgotten
    assert (report.state, report.succeeded, report.failed) == ("done", 1, 0)
    assert model.calls() == 2
    await eventually(lambda: _nothing_waits(core))
    attempts = {hop.step: hop.attempt for hop in await _hops(core)}
    assert attempts["generate"] == 2


async def test_what_runs_on_a_replica_that_is_told_to_stop_is_not_computed_twice(
    core: Core, replicas: Replicas, model: ScriptedModel
) -> None:
    """It was sent there by name, and takes longer than the three seconds of silence after which work moves."""
    model.when("question", Reply("Fine.", delay_s=10))
    await replicas.start("route")
    first = await replicas.start("keeping")
    async with await Penstock.connect(core.url, core.tenant) as penstock:
        receipt = await _submit(penstock, 1)
        await eventually(lambda: model.calls() == 1)
        info = await core.bus.js.stream_info(WORK.name, subjects_filter="work.generate.*.*.*")
        assert len(info.state.subjects or {}) == 1
        await replicas.start("keeping")
        first.send_signal(signal.SIGTERM)
        report = await penstock.report(receipt, timeout_s=20)
        assert await asyncio.wait_for(first.wait(), 10) == 0
    assert (report.state, report.succeeded, report.failed) == ("done", 1, 0)
    assert model.calls() == 1
    assert [hop.attempt for hop in await _hops(core) if hop.step == "generate"] == [1]


async def _submit(penstock: Penstock, items: int) -> Receipt:
    questions = [Input(question=f"question {n}") for n in range(items)]
    return await penstock.submit("direct", questions, Options(model="scripted"))


async def _nothing_waits(core: Core) -> bool:
    return await core.count(WORK.name) == 0


async def _hops(core: Core) -> list[Hop]:
    found = await core.messages(EVENTS.name, subjects.events(core.tenant, "*"))
    return [msgspec.json.decode(data, type=Hop) for data in found]
