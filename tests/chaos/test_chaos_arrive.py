"""Arrive, with its worker killed (kill -9, a process of its own) between any two of its actions."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from in_process import Core, eventually, question

from contracts import subjects
from contracts.job import ShardResult
from contracts.steps import Rerank
from contracts.subjects import RESULTS, WORK

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
POINTS = [
    f"{side} {action}" for action in ("result", "count", "join", "acknowledgement") for side in ("before", "after")
]


@asynccontextmanager
async def worker(core: Core, redis_url: str, point: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("dying_worker.py")),
        core.url,
        redis_url,
        point,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("point", POINTS)
async def test_kill_9_between_any_two_actions_changes_nothing(core: Core, redis_server: str, point: str) -> None:
    await core.route()
    await core.start_job([Rerank()], [[question(0), question(1)]])
    async with worker(core, redis_server, point) as mortal:
        assert await asyncio.wait_for(mortal.wait(), 20) == -signal.SIGKILL
    async with worker(core, redis_server, ""):
        report = await core.report(seconds=20)
        await eventually(lambda: _no_work(core), 20)
    assert (report.state, report.size, report.succeeded, report.failed, report.shards) == ("done", 2, 2, 0, 1)
    assert (report.usage.calls, report.usage.prompt_tokens, report.usage.cost_usd) == (2, 20, 0.5)
    (stored,) = await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", 0))
    assert [item.n for item in msgspec.json.decode(stored, type=ShardResult).items] == [0, 1]
    assert len(await core.messages(RESULTS.name, subjects.result(core.tenant, "j1", "done"))) == 1
    assert await core.dead() == []


async def _no_work(core: Core) -> bool:
    return await core.count(WORK.name) == 0
