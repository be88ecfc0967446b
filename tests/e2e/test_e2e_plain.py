"""Without our client: what the README promises to every NATS client, from plain nats-py and from JavaScript."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.running import Running

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("library"), pytest.mark.timeout(300)]

HERE = Path(__file__).parent
SERVICES = ["generate", "ingest", "judge", "memory", "rerank", "retrieve", "route"]
OURS = {"client", "contracts", "services", "shared", "penstock"}


def address(stack: Running) -> dict[str, str]:
    """Not as an argument: everybody on the machine may read those."""
    return os.environ | {"NATS_URL": stack.info.nats_url}


@pytest.fixture(scope="module")
def said(stack: Running, library: None) -> dict[str, Any]:
    """What the plain Python client printed."""
    command = [sys.executable, "-I", str(HERE / "plain_client.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd="/", env=address(stack), check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert OURS.isdisjoint(found["modules"])
    assert "nats" in found["modules"]
    return found


def check_results(results: dict[str, Any], job: str) -> None:
    """One shard with the cited answer, and the report."""
    assert {"0", "done"} <= set(results) <= {"open", "0", "done"}
    shard, report = results["0"], results["done"]
    assert (shard["job"], shard["shard"], report["job"], report["state"]) == (job, 0, job, "done")
    assert (report["size"], report["succeeded"], report.get("failed", 0)) == (1, 1, 0)
    [item] = shard["items"]
    check_answer(item)


def check_answer(item: dict[str, Any]) -> None:
    assert "failure" not in item
    assert "ACL" in item["answer"]["text"]
    quote = next(quote for quote in item["answer"]["quotes"] if quote.get("clause") == "4.2")
    assert quote["document"] == "hmo-483"
    assert quote["page"] > 0


def test_the_sequence_of_the_receipt_is_the_job_id(said: dict[str, Any]) -> None:
    check_results(said["by_sequence"]["results"], said["by_sequence"]["job"])


def test_the_payload_may_name_the_job(said: dict[str, Any]) -> None:
    check_results(said["by_own_id"]["results"], "plain-own-id")


def test_a_message_id_names_the_job_and_makes_it_idempotent(said: dict[str, Any]) -> None:
    (first, duplicate), (second, again) = said["by_message_id"]["first"], said["by_message_id"]["second"]
    assert (first, duplicate, again) == (second, False, True)
    check_results(said["by_message_id"]["results"], "plain-msg-id")


def test_a_request_gets_the_answer_as_its_reply(said: dict[str, Any]) -> None:
    good = said["asks"]["good"]
    assert good["body"]["job"]
    check_answer(good["body"])
    assert good["headers"] == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_json", "expected a JSON object with a question"),
        ("no_question", "items[0].question: expected 1 to 32768 characters, got 0"),
        ("no_pattern", "no such pattern 'ragg'; known are "),
        ("two_items", "items: an ask takes exactly one item, got 2"),
        ("bad_option", "options.n: expected int, got str"),
    ],
)
def test_a_bad_request_gets_the_reason_as_its_reply(said: dict[str, Any], name: str, reason: str) -> None:
    reply = said["asks"][name]
    assert reply["body"]["failure"]["code"] == "malformed"
    assert reason in reply["body"]["failure"]["reason"]
    assert "answer" not in reply["body"] or reply["body"]["answer"] is None
    assert reason in reply["headers"]["Nats-Service-Error"]
    assert reply["headers"]["Nats-Service-Error-Code"] == "422"


def test_all_services_answer_discovery(said: dict[str, Any]) -> None:
    assert sorted(info["name"] for info in said["services"]) == [f"penstock-{name}" for name in SERVICES]
    route = next(info for info in said["services"] if info["name"] == "penstock-route")
    assert [endpoint["subject"] for endpoint in route["endpoints"]] == ["ask.*.*"]


def test_tokens_come_on_their_subject_and_make_up_the_answer(said: dict[str, Any]) -> None:
    deltas = said["streamed"]["deltas"]
    text = "".join(delta.get("text", "") for delta in deltas)
    assert text == said["streamed"]["results"]["0"]["items"][0]["answer"]["text"]
    assert [delta["index"] for delta in deltas] == list(range(len(deltas)))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with npm's `nats` and the script; skips where that cannot be."""
    programs = [shutil.which(name) for name in ("node", "npm")]
    if None in programs:
        pytest.skip("no Node.js: node and npm must be on the PATH")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    shutil.copy(HERE / "plain.mjs", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "nats@2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        pytest.skip(f"npm install nats failed: {done.stderr.strip()[-200:]}")
    return folder


@pytest.mark.node
def test_the_same_from_javascript(stack: Running, node: Path) -> None:
    command = ["node", "plain.mjs"]
    done = subprocess.run(
        command, cwd=node, capture_output=True, text=True, timeout=90, env=address(stack), check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    check_results(found["results"], str(found["sequence"]))
    check_answer(found["reply"])
    assert found["services"] == [f"penstock-{name}" for name in SERVICES]
