"""Lines with the job and the trace; questions and answers only of tenants who are sampled."""

import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from contracts.item import Answer, Input, Item
from contracts.subjects import SHARD
from contracts.task import Task
from shared import logs
from shared.settings import StackSettings

log = logging.getLogger("penstock.test")
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_names_service_job_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("INFO", "json", "judge", "judge-7")
    with trace.use_span(SPAN), logs.about({SHARD: "acme/j1/0/2 3 4,5"}):
        log.warning("given %s", "up")
    log.info("afterwards")
    inside, outside = lines(capsys)
    assert (inside["severity"], inside["logger"], inside["body"]) == ("WARNING", "penstock.test", "given up")
    assert (inside["service"], inside["replica"]) == ("penstock-judge", "judge-7")
    assert (inside["tenant"], inside["job"]) == ("acme", "j1")
    assert (inside["trace_id"], inside["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert not {"tenant", "job", "trace_id"} & outside.keys()


def test_an_exception_is_one_line_and_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("INFO", "json", "judge", "judge-7")
    try:
        raise KeyError("jane@example.com")
    except KeyError:
        log.exception("a fault of ours")
    (line,) = lines(capsys)
    assert "Traceback" in str(line["exception"])
    assert "[email]" in str(line["exception"])
    assert "jane" not in str(line["exception"])


def test_text_is_as_before_with_the_job_at_the_end_of_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("INFO", "text", "judge", "judge-7")
    with logs.about({SHARD: "acme/j1 0 1"}):
        log.warning("one\ntwo")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" WARNING penstock.test one [tenant=acme job=j1]")
    assert second == "two"


def test_only_a_sampled_tenant_is_heard_and_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("INFO", "json", "judge", "judge-7")
    samples = logs.Samples(frozenset({"acme"}))
    before = Item(n=3, input=Input(question="I am jane@example.com, am I covered?"))
    after = Item(n=3, input=before.input, answer=Answer("Yes, call +49 30 901820."))
    for tenant in ("acme", "other"):
        samples.take(_task(tenant), [before], [after])
    samples.take(_task("acme"), [after], [after])  # the answer was there before
    (line,) = lines(capsys)
    assert (line["tenant"], line["job"], line["item"]) == ("acme", "j1", 3)
    assert (line["question"], line["answer"]) == ("I am [email], am I covered?", "Yes, call [phone].")
    assert "jane" not in json.dumps(line)


def test_a_share_of_nothing_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("INFO", "json", "judge", "judge-7")
    item = Item(n=0, input=Input(question="a"))
    logs.Samples(frozenset({"acme"}), 0.0).take(_task("acme"), [item], [Item(n=0, answer=Answer("b"))])
    assert lines(capsys) == []


def test_nobody_is_sampled_unless_the_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StackSettings.load().sampled == frozenset()
    monkeypatch.setenv("PENSTOCK_SAMPLE_TENANTS", "acme, other,")
    assert StackSettings.load().sampled == {"acme", "other"}


def _task(tenant: str) -> Task:
    return Task(f"{tenant}/j1/0", tenant, "j1", "rag", [], [], f"{tenant}/j1", 0)
