"""The commands against real servers, with a stand-in for the services."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from redis.asyncio import Redis
from stand_in import StandIn

from client.batch import Batch, default_job, run_batch
from client.cli import demo
from client.cli.main import run
from client.cli.screen import Screen
from client.client import Penstock
from client.errors import JobRejected
from client.outfile import Counts
from client.stack import StackInfo, down, up
from client.stack.processes import of_stack
from contracts import accounts, subjects
from contracts.events import Hop
from contracts.item import Failure, Input
from contracts.job import ItemResult, Job, Options
from contracts.task import DeadLetter
from shared.breakers import key
from shared.bus import Bus
from shared.uploads import Uploads

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    data = tmp_path_factory.mktemp("cli")
    yield up(data, services={})
    down(data)


@pytest.fixture
async def stand_in(stack: StackInfo) -> AsyncIterator[StandIn]:
    nc = await nats.connect(stack.operator_url)
    bus = Bus.on(nc, accounts=True)
    await bus.ensure()
    theirs = nc.jetstream(prefix=accounts.api("default"))
    for stream in subjects.STREAMS:
        if stream not in (subjects.JOBS, subjects.CONTROL):
            await bus.js.purge_stream(stream.name)
    for stream in (subjects.RESULTS, subjects.EVENTS):
        await theirs.purge_stream(stream.name)
    stand_in = StandIn(bus)
    await nc.subscribe("jobs.*.*", cb=stand_in.take)
    await nc.flush()
    yield stand_in
    await nc.close()


class Shell:
    """Runs commands as a user does, with --json, and reads their document."""

    def __init__(self, data: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._data = data
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, Any]:
        code = await asyncio.to_thread(run, [*arguments, "--data", self._data, "--json"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def shell(stack: StackInfo, stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(stack.data, capsys)


def items(tmp_path: Path, *questions: str) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    return path


def answers(path: Path) -> list[str]:
    results = [msgspec.json.decode(line, type=ItemResult) for line in path.read_bytes().splitlines()]
    assert [result.n for result in results] == list(range(len(results)))
    return [outcome(result) for result in results]


def outcome(result: ItemResult) -> str:
    if result.failure:
        return f"!{result.failure.code}"
    assert result.answer is not None
    return result.answer.text


async def test_ask_prints_the_result_and_fails_with_the_item(shell: Shell) -> None:
    code, result = await shell("ask", "hello")
    assert (code, result["answer"]["text"]) == (0, "HELLO")
    code, result = await shell("ask", "fail")
    assert (code, result["failure"]["reason"]) == (1, "no passage says")


async def test_ask_for_people_says_how_the_answer_was_made(
    stack: StackInfo, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, ["ask", "hello", "--data", stack.data]) == 0
    out = capsys.readouterr().out
    assert out.startswith("HELLO\n")
    assert "extractive" in out


async def test_a_rejected_job_is_code_4(shell: Shell) -> None:
    code, document = await shell("ask", "q", "--pattern", "nonsense")
    assert code == 4
    assert document["error"] == "pattern: no such pattern 'nonsense'"


async def test_no_answer_in_time_is_code_5(shell: Shell) -> None:
    code, document = await shell("ask", "q", "--pattern", "never", "--timeout", "0.3")
    assert code == 5
    assert "penstock job" in document["error"]


async def test_ingest_sends_files_and_lists_documents(shell: Shell, stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("# Leave\n")
    (tmp_path / "prices.csv").write_text("a,b\n")
    code, document = await shell("ingest", str(tmp_path))
    assert code == 0
    assert [result["id"] for result in document["documents"]] == ["policy.md", "prices.csv"]
    assert document["report"]["succeeded"] == 2
    sent = msgspec.json.decode(stand_in.jobs[-1].items[0], type=Input)
    assert sent.document is not None
    assert await Uploads(stand_in.bus, "default").read(sent.document.claim) == b"# Leave\n"


async def test_a_batch_writes_every_result_in_order_and_tells_by_its_code(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    file = items(tmp_path, "a", "fail", "c")
    file.write_bytes(file.read_bytes() + b"{broken\n")
    code, report = await shell("batch", str(file), "--pattern", "rag", "-o", str(out))
    assert code == 1
    assert (report["succeeded"], report["failed"]) == (2, 2)
    assert report["reasons"] == {"unanswerable": 1, "malformed": 1}
    assert answers(out) == ["A", "!unanswerable", "C", "!malformed"]


async def test_a_batch_without_failures_is_code_0(shell: Shell, tmp_path: Path) -> None:
    code, report = await shell(
        "batch",
        str(items(tmp_path, "a")),
        "--pattern",
        "rag",
        "-o",
        str(tmp_path / "out.jsonl"),
        "--option",
        "passages=3",
    )
    assert (code, report["failed"]) == (0, 0)


async def test_repeating_a_batch_submits_nothing_again(shell: Shell, stand_in: StandIn, tmp_path: Path) -> None:
    command = ("batch", str(items(tmp_path, "a", "b")), "--pattern", "rag", "-o", str(tmp_path / "out.jsonl"))
    await shell(*command)
    (tmp_path / "out.jsonl").unlink()
    code, report = await shell(*command)
    assert (code, report["found"]) == (0, 0)
    assert answers(tmp_path / "out.jsonl") == ["A", "B"]
    code, report = await shell(*command)
    assert (code, report["found"]) == (0, 2)
    assert len(stand_in.jobs) == 1


async def test_failed_items_are_submitted_anew_when_asked(shell: Shell, stand_in: StandIn, tmp_path: Path) -> None:
    command = ("batch", str(items(tmp_path, "a", "fail", "c")), "--pattern", "rag", "-o", str(tmp_path / "out.jsonl"))
    await shell(*command)
    code, report = await shell(*command, "--retry-failed")
    assert (code, report["succeeded"], report["failed"]) == (1, 2, 1)
    assert [len(job.items) for job in stand_in.jobs] == [3, 1]


async def test_items_of_a_csv_may_name_documents(shell: Shell, stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "contract.txt").write_text("whereas")
    (tmp_path / "items.csv").write_text("question,document\nwho?,contract.txt\nwhat?,gone.txt\n")
    await shell("batch", str(tmp_path / "items.csv"), "--pattern", "map-reduce", "-o", str(tmp_path / "out.jsonl"))
    sent = [msgspec.json.decode(item, type=Input).document for item in stand_in.jobs[-1].items]
    assert sent[0] is not None
    assert sent[1] is not None
    assert await Uploads(stand_in.bus, "default").read(sent[0].claim) == b"whereas"
    assert (sent[1].name, sent[1].claim) == ("gone.txt", "")


async def test_an_interrupted_batch_attaches_to_what_goes_on(
    stack: StackInfo, stand_in: StandIn, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    batch = Batch("interrupted", "rag", Options(), [json.dumps({"question": f"q{n}"}).encode() for n in range(6)])
    stand_in.pause_after = 1
    async with await Penstock.connect(stack.nats_url) as penstock:
        seen = asyncio.Event()

        def on_progress(counts: Counts) -> None:
            if counts.done == 2:
                seen.set()

        first = asyncio.create_task(run_batch(penstock, batch, out, on_progress))
        await seen.wait()
        first.cancel()
        await asyncio.wait([first])
        assert len(out.read_bytes().splitlines()) == 2
        asyncio.get_running_loop().call_later(0.3, stand_in.go_on.set)

        report = await run_batch(penstock, batch, out, lambda counts: None)

    assert (report.found, report.succeeded) == (2, 6)
    assert len(stand_in.jobs) == 1
    assert answers(out) == [f"Q{n}" for n in range(6)]


async def test_when_the_job_is_forgotten_only_missing_items_are_submitted(
    stack: StackInfo, stand_in: StandIn, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    batch = Batch("forgotten", "rag", Options(), [json.dumps({"question": f"q{n}"}).encode() for n in range(4)])
    async with await Penstock.connect(stack.nats_url) as penstock:
        await run_batch(penstock, batch, out, lambda counts: None)
        lines = out.read_bytes().splitlines()
        out.write_bytes(lines[3] + b"\n" + lines[0] + b"\n")
        await stand_in.bus.js.purge_stream("RESULTS")
        await stand_in.bus.nc.jetstream(prefix=accounts.api("default")).purge_stream("RESULTS")

        report = await run_batch(penstock, batch, out, lambda counts: None)

    assert (report.found, report.succeeded) == (2, 4)
    assert answers(out) == ["Q0", "Q1", "Q2", "Q3"]
    assert [len(job.items) for job in stand_in.jobs] == [4, 2]
    assert not (tmp_path / "out.jsonl.rest.json").exists()


async def test_an_id_that_another_batch_has_is_refused(stack: StackInfo, stand_in: StandIn, tmp_path: Path) -> None:
    async with await Penstock.connect(stack.nats_url) as penstock:
        await penstock.submit("rag", [Input(question="another")], job="taken")
        await penstock.report("taken")
        batch = Batch("taken", "rag", Options(), [b'{"question": "mine"}'])
        with pytest.raises(JobRejected, match="of other items"):
            await run_batch(penstock, batch, tmp_path / "out.jsonl", lambda counts: None)


def test_the_default_id_of_a_batch_follows_from_what_is_run() -> None:
    same = default_job(b"x", "rag", Options())
    assert same == default_job(b"x", "rag", Options())
    others = {
        default_job(b"y", "rag", Options()),
        default_job(b"x", "direct", Options()),
        default_job(b"x", "rag", Options(passages=3)),
    }
    assert len(others | {same}) == 4
    assert subjects.TOKEN.match(same)


async def test_a_job_shows_its_state_counts_and_timeline(shell: Shell, stand_in: StandIn, stack: StackInfo) -> None:
    async with await Penstock.connect(stack.nats_url) as penstock:
        await penstock.submit("rag", [Input(question="a"), Input(question="fail")], job="seen")
        await penstock.report("seen")
    for number, service in enumerate(("route", "judge")):
        record = Hop("default", "seen", "default/seen/0", service, "step", number, 100.0 + number, 100, 200, items=2)
        await stand_in.bus.publish(subjects.events("default", "seen"), msgspec.json.encode(record))
    code, view = await shell("job", "seen")
    assert (code, view["state"], view["succeeded"], view["failed"]) == (0, "done", 1, 1)
    assert [(hop["service"], hop["waiting"], hop["working"]) for hop in view["hops"]] == [
        ("route", 0.1, 0.2),
        ("judge", 0.1, 0.2),
    ]


async def test_a_job_at_work_is_counted_from_its_results(shell: Shell, stand_in: StandIn, stack: StackInfo) -> None:
    stand_in.pause_after = 1
    async with await Penstock.connect(stack.nats_url) as penstock:
        await penstock.submit("rag", [Input(question="a")] * 4, job="at-work")
        async for _ in penstock.results("at-work"):
            break
    code, view = await shell("job", "at-work")
    assert (code, view["state"], view["succeeded"]) == (0, "running", 2)
    stand_in.go_on.set()


async def test_jobs_that_nobody_knows_are_code_2(shell: Shell) -> None:
    for command in ("job", "cancel"):
        code, document = await shell(command, "no-such-job")
        assert code == 2
        assert "no such job" in document["error"]


async def test_cancel_reaches_the_control_stream(shell: Shell, stand_in: StandIn, stack: StackInfo) -> None:
    stand_in.pause_after = 1
    async with await Penstock.connect(stack.nats_url) as penstock:
        await penstock.submit("rag", [Input(question="a")] * 4, job="stop-me")
        async for _ in penstock.results("stop-me"):
            break
    code, _ = await shell("cancel", "stop-me", "--reason", "too dear")
    assert code == 0
    stored = await stand_in.bus.last(accounts.control("default"), subjects.cancel("default", "stop-me"))
    assert stored is not None
    assert b"too dear" in (stored.data or b"")
    stand_in.go_on.set()


async def test_dead_letters_are_listed_shown_and_sent_again(shell: Shell, stand_in: StandIn) -> None:
    payload = msgspec.json.encode(Job(items=[msgspec.Raw(b'{"question": "a"}')], job="revived"))
    letter = DeadLetter(
        "route", "jobs.default.rag", "no such thing", Failure("internal", "no such thing", "route"), payload,
        headers={subjects.MSG_ID: "default.revived", subjects.SHARD: "g 0 0"}, deliveries=5, at=1.0,
    )  # fmt: skip
    number = await stand_in.bus.publish("dead.route", msgspec.msgpack.encode(letter))

    code, listed = await shell("dead", "list")
    assert (code, [(one["number"], one["reason"]) for one in listed]) == (0, [(number, "no such thing")])
    assert (await shell("dead", "list", "--service", "judge"))[1] == []
    code, shown = await shell("dead", "show", str(number))
    assert (code, shown["headers"][subjects.SHARD]) == (0, "g 0 0")

    code, sent = await shell("dead", "redrive", str(number))
    assert (code, sent) == (0, {"redriven": [number]})
    assert [job.job for job in stand_in.jobs] == ["revived"]
    assert (await shell("dead", "list"))[1] == []
    code, document = await shell("dead", "show", str(number))
    assert code == 2
    assert "penstock dead list" in document["error"]


async def test_status_shows_queues_processes_and_who_is_missing(shell: Shell, stack: StackInfo) -> None:
    code, view = await shell("status")
    assert code == 0
    assert view["nats_url"] == stack.nats_url
    assert view["data"] == stack.data
    assert {stream["name"] for stream in view["streams"]} >= {"JOBS_default", "WORK", "RESULTS"}
    assert {process["name"] for process in view["processes"]} == {"nats", "redis", "supervisord"}
    assert view["memory"] > 1_000_000


async def test_a_model_that_is_left_alone_is_shown_with_its_reason(shell: Shell, stack: StackInfo) -> None:
    async with Redis.from_url(stack.redis_url) as redis:
        for name, value in (("until", time.time() + 60), ("since", time.time())):
            await redis.hset(key("large"), name, str(int(value * 1000)))
        await redis.hset(key("large"), "why", "it answered 503")
        try:
            _, view = await shell("status")
            code, document = await shell("doctor")
        finally:
            await redis.delete(key("large"))
    assert [(breaker["model"], breaker["why"]) for breaker in view["breakers"]] == [("large", "it answered 503")]
    assert [(check["name"], check["found"]) for check in document["checks"] if not check["ok"]] == [
        ("models", "large is left alone: it answered 503")
    ]
    assert code == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing_running(
    ending: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.cli.up.up", partial(up, services={}))
    folder = tmp_path / "demo"

    def interrupted() -> None:
        with demo.stack(folder, Screen()):
            assert of_stack(folder)
            os.kill(os.getpid(), ending)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert of_stack(folder) == []


async def test_doctor_finds_this_stack_well(shell: Shell) -> None:
    code, document = await shell("doctor")
    assert {check["name"]: check["found"] for check in document["checks"] if not check["ok"]} == {}
    assert code == 0
    assert {check["name"] for check in document["checks"]} >= {"Python", "NATS", "Redis", "streams", "disk", "encoder"}
