"""The trace of a job in a real Jaeger, which the spans reach by OTLP over HTTP."""

import asyncio
import json
import lzma
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from in_process import Core, GenerateSettings, JudgeSettings, eventually, question
from servers import free_port, wait_for_port

from contracts.item import Answer, Item
from contracts.steps import Decide, Generate, Judge, Rerank
from contracts.task import Task
from services.route.domain.pattern import Pattern
from shared import telemetry

JAEGER = Path(__file__).parents[3] / "shared" / "lab" / "jaeger-1.62.0.xz"
SERVICES = ("route", "rerank", "generate", "judge")
_AGENTS = ("jaeger-binary", "jaeger-compact", "zipkin-compact")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not JAEGER.exists(), reason="no Jaeger beside the repository (shared/lab)"),
]


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A Jaeger that keeps nothing: where spans go, and where traces are asked for."""
    program = tmp_path / "jaeger"
    program.write_bytes(lzma.decompress(JAEGER.read_bytes()))
    program.chmod(0o700)
    otlp, query = free_port(), free_port()
    options = [f"--collector.otlp.http.host-port=127.0.0.1:{otlp}", f"--query.http-server.host-port=127.0.0.1:{query}"]
    others = (
        "collector.otlp.grpc",
        "collector.grpc-server",
        "collector.http-server",
        "query.grpc-server",
        "admin.http",
    )
    options += [f"--{name}.host-port=127.0.0.1:{free_port()}" for name in others]
    options += [f"--processor.{name}.server-host-port=127.0.0.1:{free_port()}" for name in _AGENTS]
    options += [f"--http-server.host-port=127.0.0.1:{free_port()}"]
    process = subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(otlp)
        wait_for_port(query)
        yield f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{query}"
    finally:
        process.kill()  # it keeps nothing, and takes its time otherwise
        process.wait(10)


async def test_one_trace_goes_from_route_to_judge(core: Core, jaeger: tuple[str, str]) -> None:
    otlp, query = jaeger
    core.exported = {name: telemetry.start(name, otlp, f"{name}-1") for name in SERVICES}
    await core.route(pattern=Pattern("p", "p", open=lambda options: [], decide=lambda item, options: []))
    await core.rerank(_passes)
    for settings, step in ((GenerateSettings(), Generate), (JudgeSettings(), Judge)):
        worker = core.worker(settings)
        worker.on(step, _passes)
        await worker.start()
    await core.start_job(
        [Decide(), Rerank(), Generate(model="m"), Judge()],
        [[question(0)]],
        headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
    )
    assert (await core.report()).succeeded == 1
    await eventually(lambda: _work_is_empty(core))
    for each in core.exported.values():
        await asyncio.to_thread(each.close)
    spans = await asyncio.to_thread(_trace, query)
    processes = {span["spanID"]: span["service"] for span in spans}
    assert set(processes.values()) == {f"penstock-{name}" for name in SERVICES}
    above = {span["service"]: processes.get(span["parent"]) for span in spans if span["name"].startswith("process ")}
    assert above["penstock-rerank"] == "penstock-route"
    assert above["penstock-generate"] == "penstock-rerank"
    assert above["penstock-judge"] == "penstock-generate"


async def _passes(task: Task, step: object) -> Sequence[Item]:
    return [msgspec.structs.replace(item, answer=Answer("fine")) for item in task.items]


def _trace(query: str) -> list[dict[str, str]]:
    with urllib.request.urlopen(f"{query}/api/traces/{TRACE}", timeout=5) as response:
        found: dict[str, Any] = json.load(response)["data"][0]
    return [
        {
            "spanID": span["spanID"],
            "name": span["operationName"],
            "service": found["processes"][span["processID"]]["serviceName"],
            "parent": next((ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"), ""),
        }
        for span in found["spans"]
    ]


async def _work_is_empty(core: Core) -> bool:
    return await core.count("WORK") == 0
