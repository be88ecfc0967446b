"""The stack of compose.yaml, built and started: the main job, a client that knows nothing of ours, metrics, a trace.

`make test-stack`. Vectors are in Edge unless PENSTOCK_TEST_VECTORS=qdrant; words are in OpenSearch. Ports are chosen.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from servers import free_port

from client.stack.compose import Compose

REPOSITORY = Path(__file__).parents[2]
WANTED = os.environ.get("PENSTOCK_TEST_STACK") == "1"
ENGINE = shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True, check=False)
REASON = "builds images: run make test-stack" if not WANTED else "no container engine answers"
pytestmark = [
    pytest.mark.skipif(not (WANTED and ENGINE and ENGINE.returncode == 0), reason=REASON),
    pytest.mark.timeout(1200),
]


class Stack:
    """A started stack and where it answers."""

    def __init__(self, folder: Path) -> None:
        self.nats, self.jaeger, self.prometheus = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.secrets = folder / "secrets"
        vectors = os.environ.get("PENSTOCK_TEST_VECTORS", "edge")
        self._override = folder / "compose.test.yaml"
        Compose(self.secrets, self.nats).write()
        mounted = [path for path in self.secrets.iterdir() if path.suffix != ".url"]
        self._override.write_text(json.dumps({"secrets": {path.name: {"file": str(path)} for path in mounted}}))
        self.environment = os.environ | {
            "COMPOSE_PROFILES": "observe,qdrant" if vectors == "qdrant" else "observe",
            "NATS_LISTEN": self.nats,
            "JAEGER_LISTEN": self.jaeger,
            "PROMETHEUS_LISTEN": self.prometheus,
            "RETRIEVE_VECTORS": vectors,
            "PENSTOCK_OTLP": "http://jaeger:4318",
            "PENSTOCK_COMPOSE_SECRETS": str(self.secrets),
        }

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "-p", "penstock-test", "-f", "compose.yaml", "-f", str(self._override)]
        done = subprocess.run(
            [*command, *arguments], cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def penstock(self, *arguments: str) -> str:
        program = "import sys; from client.cli.main import run; sys.exit(run(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "--stack", "compose", *arguments]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    found = Stack(tmp_path_factory.mktemp("compose"))
    try:
        found.compose("up", "--detach", "--build", "--wait", "--scale", "rerank=2", "--scale", "generate-gpu=2")
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5")


def test_the_library_is_read_and_a_question_answered_with_its_clause(stack: Stack) -> None:
    read = json.loads(stack.penstock("ingest", "samples/library", "--json"))
    assert read["report"]["succeeded"] == 5
    answer = json.loads(stack.penstock("ask", "Does plan HMO-483 cover physiotherapy after ACL surgery?", "--json"))
    assert "anterior cruciate ligament" in answer["answer"]["text"]
    assert (answer["answer"]["quotes"][0]["clause"], answer["answer"]["quotes"][0]["page"]) == ("4.2", 3)


async def test_a_client_that_knows_nothing_of_ours(stack: Stack) -> None:
    client = await nats.connect((stack.secrets / "default.url").read_text())
    try:
        results = await client.subscribe("live.results.default.plain.*")
        job = {"job": "plain", "items": [{"question": f"question {n}"} for n in range(50)]}
        await client.jetstream().publish("jobs.default.noop", json.dumps(job).encode())
        seen: list[int] = []
        while True:
            message = await results.next_msg(timeout=60)
            found = json.loads(message.data)
            seen += [item["n"] for item in found["items"]] if "items" in found else []
            if message.subject.endswith(".done"):
                assert (found["succeeded"], found.get("failed", 0)) == (50, 0)
                break
        while len(seen) < 50:
            seen += [item["n"] for item in json.loads((await results.next_msg(timeout=60)).data)["items"]]
        assert sorted(seen) == list(range(50))
    finally:
        await client.close()


def test_prometheus_has_the_metrics_of_every_replica(stack: Stack) -> None:
    def answered(query: str) -> list[dict[str, object]]:
        url = f"http://{stack.prometheus}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return list(json.load(response)["data"]["result"])

    until(lambda: len(answered('up{job="penstock"} == 1')) == 9)
    until(lambda: bool(answered('penstock_items_total{penstock_pattern="noop",penstock_outcome="succeeded"} >= 50')))
    until(lambda: bool(answered('penstock_answers_total{penstock_answer_mode="extractive"} >= 1')))


def test_one_trace_goes_through_all_services(stack: Stack) -> None:
    def services() -> set[str]:
        url = f"http://{stack.jaeger}/api/traces?service=penstock-judge&limit=5"
        with urllib.request.urlopen(url, timeout=10) as response:
            traces = json.load(response)["data"]
        return max(({process["serviceName"] for process in trace["processes"].values()} for trace in traces), key=len,
                   default=set())  # fmt: skip

    expected = {f"penstock-{name}" for name in ("route", "retrieve", "rerank", "generate", "judge")}
    until(lambda: expected <= services())


def test_a_rolling_restart_under_load_loses_nothing(stack: Stack) -> None:
    async def run() -> dict[str, object]:
        client = await nats.connect((stack.secrets / "default.url").read_text(), max_reconnect_attempts=-1)
        done = await client.subscribe("live.results.default.rolling.done")
        question = "Does plan HMO-483 cover physiotherapy after ACL surgery?"
        job = {"job": "rolling", "items": [{"question": question}] * 150}
        await client.jetstream().publish("jobs.default.rag", json.dumps(job).encode())
        for service in ("rerank", "generate-gpu", "route", "judge", "retrieve"):
            await asyncio.to_thread(stack.compose, "restart", service)
        report: dict[str, object] = json.loads((await done.next_msg(timeout=300)).data)
        await client.close()
        return report

    report = asyncio.run(run())
    assert (report["succeeded"], report.get("failed", 0)) == (150, 0), report


def until(happened: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(1)
