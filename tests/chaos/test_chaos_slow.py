"""Readers that are too slow, and messages that come again when nobody remembers them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from in_process import Core, GenerateSettings, eventually, question

from contracts import subjects
from contracts.item import Answer, Item, Message
from contracts.steps import Generate, Rerank
from contracts.subjects import RESULTS, WORK
from contracts.task import Task
from loadtest.chaos.verdict import Found, verdict
from loadtest.scripted_model import Reply, ScriptedModel
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.models import load_catalogue

pytestmark = pytest.mark.servers

SHARDS = 60
CATALOGUE = """\
models:
  - {{name: extractive, engine: extractive, default: true}}
  - {{name: scripted, engine: openai, base_url: {url}, id: scripted-1, price: {{prompt: 1.0, completion: 2.0}}}}
"""


async def test_a_reader_that_never_reads_holds_nobody_up(core: Core) -> None:
    """It subscribes to all results and tokens and then stands still; megabytes pile up for it."""
    long = "word " * 20_000

    async def answers(task: Task, step: Rerank) -> Sequence[Item]:
        await core.bus.nc.publish(subjects.tokens(task.tenant, task.job, task.index), long.encode())
        return [msgspec.structs.replace(item, answer=Answer(long)) for item in task.items]

    port = int(core.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b'CONNECT {"verbose":false}\r\nSUB results.> 1\r\nSUB tokens.> 2\r\nPING\r\n')
    await writer.drain()
    try:
        await core.route()
        await core.rerank(answers)
        await core.start_job([Rerank()], [[question(n)] for n in range(SHARDS)])
        report = await core.report(seconds=30)
    finally:
        writer.close()
    shards = [await core.shard(index) for index in range(SHARDS)]
    assert verdict(SHARDS, Found(report, shards, {})).faults == []


async def test_a_task_that_comes_again_after_its_dedupe_window_is_neither_counted_nor_paid_twice(
    core: Core, tmp_path: Path
) -> None:
    async with ScriptedModel.running() as model:
        model.when("question", Reply("Paris.", prompt_tokens=10, completion_tokens=2))
        catalogue = tmp_path / "models.yaml"
        catalogue.write_text(CATALOGUE.format(url=model.url))
        models = load_catalogue(catalogue)
        engine = OpenAI(models.get("scripted"))
        workshop = Workshop(models, {"scripted": engine}, RedisLedger(core.redis, 600), _Nobody())
        worker = core.worker(GenerateSettings(ack_wait_s=2))
        worker.on(Generate, lambda task, step: generate(task, step, workshop))
        await worker.start()
        await core.route()
        items = [msgspec.structs.replace(question(n), messages=[Message("user", f"question {n}")]) for n in range(3)]
        (task,) = await core.start_job([Generate(model="scripted")], [items])
        report = await core.report()
        assert (report.succeeded, report.usage.calls, model.calls()) == (3, 3, 3)

        await core.bus.publish(subjects.work(task.steps[0], task.lane), msgspec.msgpack.encode(task))  # under no id
        await eventually(lambda: _no_work(core))
        assert model.calls() == 3
        assert await core.report() == report
        assert len(await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", 0))) == 1
        await engine.close()


class _Nobody:
    async def publish(self, subject: str, payload: bytes) -> None:
        """Nobody listens to tokens."""


async def _no_work(core: Core) -> bool:
    return await core.count(WORK.name) == 0
