"""What Prometheus reads: all that alerts and the dashboard ask for is exported, and the rules do as they say."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from servers import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
NAME = re.compile(r"\b(?:penstock|messaging|gen_ai|target)_[A-Za-z_]+")

EVERYTHING = """
import sys, urllib.request
import msgspec
from contracts.item import Answer, Item, Usage, Verdict
from contracts.task import Tally, Task
from shared import telemetry
port = int(sys.argv[1])
found = telemetry.start("route", "", "replica", port)
item = Item(n=0)
done = Item(n=0, answer=Answer("x"), verdict=Verdict("grounding", True), usage=Usage(10, 5, 2, 1, 0.1))
task = Task("t/j/0", "t", "j", "rag", [item], [], "t/j", 0, user="ann")
found.names_user = lambda tenant, user: (tenant, user) == ("t", "ann")
with found.step(task, "generate") as span:
    found.used(span, task, "m", [item], [done])
    found.used(span, msgspec.structs.replace(task, user="unnamed"), "m", [item], [done])
    found.learnt(task, [item], [done])
found.ended(task, Tally(1, 1, Usage(), {"upstream": 1}))
found.queue_seconds.record(1, {telemetry.LANE: "batch"})
found.first_token_seconds.record(1, {telemetry.LANE: "batch"})
found.phase_seconds.record(1, {telemetry.PHASE: "decode"})
found.met_limit("t", "tenant", "usd_day", "refused", 1)
found.retries.add(1, {telemetry.ERROR: "upstream"})
found.dead_letters.add(1, {telemetry.ERROR: "internal"})
found.looked_up("answer", "exact")
found.queue_depths["rerank", "batch"] = 3
found.breakers["large"] = 1
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
"""

MEASURED = """
import sys, urllib.request
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from shared import telemetry
port = int(sys.argv[1])
found = telemetry.start("route", "", "replica", port, [SimpleSpanProcessor(InMemorySpanExporter())])
trace = "0af7651916cd43dd8448eb211c80319c"
with found.hop("work.route.batch", {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}, 1):
    for seconds in (0.003, 0.8):
        found.queue_seconds.record(seconds, {telemetry.LANE: "batch"})
found.queue_seconds.record(4.0, {telemetry.LANE: "batch"})
accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=accept)
print(urllib.request.urlopen(asked).read().decode(), end="")
"""


@pytest.fixture(scope="module")
def exported() -> str:
    """What a process says of itself that has counted one of everything; a process, since the SDK is set up once."""
    command = [sys.executable, "-c", EVERYTHING, str(free_port())]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_buckets_carry_the_trace_that_a_measurement_was_made_in() -> None:
    command = [sys.executable, "-c", MEASURED, str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    parsed = text_string_to_metric_families(done.stdout)  # type: ignore[no-untyped-call]  # the library's own
    families = {family.name: family for family in parsed}
    buckets = {
        sample.labels["le"]: (sample.value, sample.exemplar)
        for sample in families["penstock_queue_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    marked = {le: exemplar for le, (_, exemplar) in buckets.items() if exemplar}
    assert {le: one.value for le, one in marked.items()} == {"0.005": 0.003, "1.0": 0.8}  # 4.0 was in no span
    assert {one.labels["trace_id"] for one in marked.values()} == {"0af7651916cd43dd8448eb211c80319c"}
    assert [buckets[le][0] for le in ("0.005", "0.75", "1.0", "5.0")] == [1, 1, 2, 3]


def series(exported: str) -> dict[str, set[str]]:
    """Names of series with their labels."""
    found: dict[str, set[str]] = {}
    for line in exported.splitlines():
        if match := re.match(r"([A-Za-z_:]+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r"(\w+)=\"", match[2] or ""))
    return found


def questions() -> dict[str, str]:
    """Every expression of the rules, of the dashboard and of scalers, by its name."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    panels = json.loads((DEPLOY / "grafana" / "penstock.json").read_text())["panels"]
    found = {rule["alert"]: rule["expr"] for rule in rules} | {
        panel["title"]: target["expr"] for panel in panels for target in panel["targets"]
    }
    scaled = yaml.safe_load_all((DEPLOY / "kubernetes" / "overlays" / "scaled" / "scaledobjects.yaml").read_text())
    queries = {
        f"scaler of {each['metadata']['name']}": trigger["metadata"]["query"]
        for each in scaled
        for trigger in each["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    }
    assert queries, "a scaler that asks Prometheus"
    return found | queries


@pytest.mark.parametrize("name", questions())
def test_what_is_asked_for_is_exported(exported: str, name: str) -> None:
    known, expression = series(exported), questions()[name]
    labels = {label for found in known.values() for label in found}
    asked = set(NAME.findall(expression))
    metrics = {word for word in asked if word in known}
    unknown = asked - metrics - labels
    assert not unknown, f"{name}: nothing exports {unknown}"
    assert metrics or name == "ReplicaGone"  # `up` is Prometheus's own
    for metric, selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
        if metric in known:
            assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", selector)) <= known[metric]


def test_what_a_user_costs_is_told_of_those_who_are_named(exported: str) -> None:
    cost = [line for line in exported.splitlines() if line.startswith("penstock_cost_USD_total{")]
    assert sum('penstock_user="ann"' in line for line in cost) == 1
    assert not any("unnamed" in line for line in cost)


def test_what_of_a_tenants_prompts_came_from_a_cache_is_told(exported: str) -> None:
    found = {
        name: [float(line.rpartition(" ")[2]) for line in exported.splitlines() if line.startswith(f"{name}{{")]
        for name in ("penstock_tokens_prompt_total", "penstock_tokens_cached_total")
    }
    assert found == {"penstock_tokens_prompt_total": [20.0], "penstock_tokens_cached_total": [10.0]}
    assert 'penstock_tokens_cached_total{gen_ai_request_model="m",' in exported
    assert {"penstock_tenant", "penstock_pattern"} <= series(exported)["penstock_tokens_cached_total"]


def test_every_alert_has_its_place_in_the_runbook() -> None:
    runbook = (DEPLOY.parent / "docs" / "runbook.md").read_text()
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert f"## {rule['alert']}\n" in runbook
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_alert_is_made_to_go_off() -> None:
    tried = yaml.safe_load((RULES.parent / "rules.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tried for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    port = free_port()
    program = (
        f"import socket; s = socket.socket(); s.bind(('0.0.0.0', {port})); s.listen()\n"
        "from shared import telemetry\n"
        "from shared.errors import PenstockError\n"
        "try:\n"
        f"    telemetry.start('route', '', 'r', {port})\n"
        "except PenstockError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == f"PENSTOCK_METRICS_PORT: port {port} is taken by another process\n"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (it comes with Prometheus)")
def test_the_rules_do_as_they_say() -> None:
    ended = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
