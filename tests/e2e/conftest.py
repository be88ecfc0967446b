"""One stack for all end-to-end tests: NATS, Redis, seven services, and a scripted OpenAI-compatible model."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from client.client import Penstock
from client.stack import down, up
from client.stack.processes import of_stack
from contracts.item import DocumentRef, Input
from contracts.job import Options
from e2e.running import CACHED, COMPLETION, PROMPT, SLOTS, Running, Script
from loadtest.scripted_model import ScriptedModel

BOOKLET = Path(__file__).parents[2] / "samples" / "library" / "HMO-483 Benefits 2025.pdf"
READY_S = 120.0
TENANTS = ("default", "acme", "globex")

MODELS = """
models:
  - {{name: extractive, engine: extractive, context: 1000000, default: true}}
  - {{name: noop, engine: noop, context: 1000000}}
  - name: scripted
    engine: openai
    base_url: {url}
    id: scripted-1
    context: 32000
    price: {{prompt: {prompt}, cached: {cached}, completion: {completion}}}
    breaker: {{failures: 1000000}}  # one test's faults are no other test's
  - name: hr
    engine: openai
    base_url: {url}
    id: adapter-hr
    expert: leave, holiday, payroll, employee, manager, onboarding, performance review
  - name: finance
    engine: openai
    base_url: {url}
    id: adapter-finance
    expert: reconcile ledger accounts, invoice, journal entry, month-end close, accrual
"""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole embedded stack in a folder of its own; ends with nothing of it left."""
    data = tmp_path_factory.mktemp("stack") / "data"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-model", daemon=True)
    thread.start()
    serving = ScriptedModel.running()
    server = _in(loop, serving.__aenter__()).result(10)
    models = data.with_name("models.yaml")
    models.write_text(MODELS.format(url=server.url, prompt=PROMPT, cached=CACHED, completion=COMPLETION))
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
                environment.delenv(name)
            environment.setenv("PENSTOCK_MODELS", str(models))
            environment.setenv("PENSTOCK_GENERATE_BATCH_SLOTS", str(SLOTS))
            environment.setenv("PENSTOCK_RETRIEVE_CACHE_FOR", '{"default": "off"}')  # the same questions, other answers
            info = up(data, ready_s=READY_S, tenants=TENANTS)
        yield Running(info, server)
    finally:
        down(data)
        _in(loop, serving.__aexit__(None, None, None)).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
    assert of_stack(data) == []


def _in(loop: asyncio.AbstractEventLoop, work: Any) -> "Future[Any]":
    return asyncio.run_coroutine_threadsafe(work, loop)


@pytest.fixture
def script(stack: Running) -> Script:
    return Script(stack.server)


@pytest.fixture
async def penstock(stack: Running) -> AsyncIterator[Penstock]:
    async with await Penstock.connect(stack.info.nats_url) as connection:
        yield connection


@pytest.fixture
async def operator(stack: Running) -> AsyncIterator[Penstock]:
    """On the account of the services: sees what no tenant does."""
    async with await Penstock.connect(stack.info.operator_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def library(stack: Running) -> None:
    """The health-plan booklet, read and indexed for the tenant `default`."""

    async def read() -> None:
        async with await Penstock.connect(stack.info.nats_url) as penstock:
            claim = await penstock.upload(BOOKLET.read_bytes())
            item = Input(document=DocumentRef(name=BOOKLET.name, claim=claim, id="hmo-483"))
            report = await penstock.report(await penstock.submit("ingest", [item], Options()), timeout_s=60)
            assert report.succeeded == 1, report

    thread = threading.Thread(target=asyncio.run, args=[read()])  # pytest-asyncio has a loop of its own in this one
    thread.start()
    thread.join()
