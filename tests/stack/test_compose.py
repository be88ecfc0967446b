"""The stack of compose.yaml, built and started: the main job, a client that knows nothing of ours, metrics, a trace,
replicas that join, and new containers of everything under load."""

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable

import msgspec
import nats
import pytest

from client.client import Penstock
from client.follow import stored
from contracts import subjects
from contracts.events import Hop
from contracts.item import Input
from contracts.job import Options
from contracts.subjects import EVENTS
from loadtest.chaos.model import ChaoticModel
from loadtest.chaos.rolling import ORDER, run
from loadtest.compose_stack import ComposeStack

QUESTION = "Does plan HMO-483 cover physiotherapy after ACL surgery?"


@pytest.fixture(scope="module", autouse=True)
def library(stack: ComposeStack) -> None:
    read = json.loads(stack.penstock("ingest", "samples/library", "--json"))
    assert read["report"]["succeeded"] == 5


def test_a_question_is_answered_with_its_clause(stack: ComposeStack) -> None:
    answer = json.loads(stack.penstock("ask", QUESTION, "--json"))
    assert "anterior cruciate ligament" in answer["answer"]["text"]
    assert (answer["answer"]["quotes"][0]["clause"], answer["answer"]["quotes"][0]["page"]) == ("4.2", 3)


async def test_a_client_that_knows_nothing_of_ours(stack: ComposeStack) -> None:
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


def test_prometheus_has_the_metrics_of_every_replica(stack: ComposeStack) -> None:
    def answered(query: str) -> list[dict[str, object]]:
        url = f"http://{stack.prometheus}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return list(json.load(response)["data"]["result"])

    replicas = 7 + sum(count - 1 for count in stack.scale.values())
    until(lambda: len(answered('up{job="penstock"} == 1')) == replicas)
    until(lambda: bool(answered('penstock_items_total{penstock_pattern="noop",penstock_outcome="succeeded"} >= 50')))
    until(lambda: bool(answered('penstock_answers_total{penstock_answer_mode="extractive"} >= 1')))


def test_one_trace_goes_through_all_services(stack: ComposeStack) -> None:
    def services() -> set[str]:
        url = f"http://{stack.jaeger}/api/traces?service=penstock-judge&limit=5"
        with urllib.request.urlopen(url, timeout=10) as response:
            traces = json.load(response)["data"]
        return max(({process["serviceName"] for process in trace["processes"].values()} for trace in traces), key=len,
                   default=set())  # fmt: skip

    expected = {f"penstock-{name}" for name in ("route", "retrieve", "rerank", "generate", "judge")}
    until(lambda: expected <= services())


async def test_replicas_join_without_configuration(stack: ComposeStack) -> None:
    assert replicas(stack)["retrieve"] == 2
    assert replicas(stack)["generate"] == 3
    assert {service: len(names) for service, names in (await asked(stack, "joined", 160)).items()} == {
        "retrieve": 2, "rerank": 2, "generate": 3,
    }  # fmt: skip
    everyone = ["--scale", "retrieve=3", "--scale", "rerank=3"]
    await asyncio.to_thread(
        stack.compose, "up", "--detach", "--wait", "--no-deps", "--no-recreate", *everyone, "retrieve", "rerank"
    )
    try:
        assert replicas(stack)["retrieve"] == 3
        at_work = await asked(stack, "joined-later", 160)
        assert {service: len(names) for service, names in at_work.items()} == {
            "retrieve": 3,
            "rerank": 3,
            "generate": 3,
        }
    finally:
        await asyncio.to_thread(
            stack.compose, "up", "--detach", "--wait", "--no-deps", "--no-recreate", "--scale", "retrieve=2",
            "--scale", "rerank=2", "retrieve", "rerank",
        )  # fmt: skip


async def asked(stack: ComposeStack, job: str, times: int) -> dict[str, set[str]]:
    """Ask the same, each time anew: every answer has the clause, whoever gave it. Returns who was at work."""
    async with await Penstock.connect((stack.secrets / "default.url").read_text()) as penstock:
        items = [Input(question=QUESTION)] * times
        report = await penstock.report(await penstock.submit("rag", items, Options(cache="off"), job), timeout_s=300)
        assert (report.succeeded, report.failed) == (times, 0)
        answers = [item.answer async for shard in penstock.stored_results(job) for item in shard.items]
        assert [answer.quotes[0].clause for answer in answers if answer] == ["4.2"] * times
        records = stored(penstock.bus.js, EVENTS, subjects.events("default", job))
        hops = [msgspec.json.decode(message.data, type=Hop) async for message in records]
    services = ("retrieve", "rerank", "generate")
    return {service: {hop.replica for hop in hops if hop.service == service} for service in services}


def replicas(stack: ComposeStack) -> dict[str, int]:
    status = json.loads(stack.penstock("status", "--json"))
    return {service["name"]: len(service["replicas"]) for service in status["services"]}


async def test_new_containers_of_everything_under_load_lose_nothing(stack: ComposeStack, model: ChaoticModel) -> None:
    outcome = await run(stack, model, items=300, rounds=1, say=print)
    assert [change.service for change in outcome.changes] == list(ORDER)
    assert [fault for verdict in outcome.verdicts.values() for fault in verdict.faults] == []
    assert {name: outcome.total(name) for name in ("submitted", "arrived", "lost", "doubled", "failed")} == {
        "submitted": 300, "arrived": 300, "lost": 0, "doubled": 0, "failed": 0,
    }  # fmt: skip


def until(happened: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(1)
