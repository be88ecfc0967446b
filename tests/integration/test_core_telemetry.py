"""One trace over all hops of a job; a record of each in EVENTS; nothing is exported unless an address is set."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from in_process import SPANS, Core, GenerateSettings, eventually, question, telemetry_of
from opentelemetry.sdk.trace import ReadableSpan

from contracts import subjects
from contracts.events import Hop
from contracts.item import Answer, Input, Item, Message, Usage
from contracts.steps import Generate, Render, Rerank, Scatter
from contracts.subjects import EVENTS
from contracts.task import Task
from services.route import handlers
from services.route.domain.prompts import load_prompts
from shared import telemetry, tracing
from shared.errors import Poison, Retryable
from shared.models import Catalogue, Model

pytestmark = pytest.mark.servers

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
RANDOM_PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-03"}
"""As our SDK writes it: sampled, and with a trace id that was drawn at random."""


async def test_one_trace_covers_all_hops_and_each_hangs_on_the_one_that_published_it(core: Core) -> None:
    await core.route()
    await _generate(core)
    await core.rerank(_passes)
    await _publish(core, [Rerank(), Scatter([Generate(model="m")], n=2), Rerank()])
    await core.report()
    await eventually(lambda: len(_spans("process route")) == 3)  # the scatter, its join, the join of the job
    spans = SPANS.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    assert _parents(spans)["rerank rerank"] == ["process rerank"] * 2
    chain = ["process route", "process rerank"]
    (report,) = _spans("route report")
    above = _ancestors(report)
    assert above[0] == "process route"  # the join
    assert above[-2:] == chain  # the scatter, and the first hop
    assert "process generate" in above
    attributes = dict(_spans("process rerank")[0].attributes or {})
    assert attributes[telemetry.DESTINATION] == "work.rerank.interactive"
    assert (attributes[telemetry.SYSTEM], attributes[telemetry.ATTEMPT]) == ("nats", 1)
    used = dict(_spans("generate generate")[0].attributes or {})
    assert (used[telemetry.MODEL], used[telemetry.INPUT_TOKENS], used[telemetry.OUTPUT_TOKENS]) == ("m", 10, 2)


async def test_the_report_of_a_job_is_linked_to_what_made_each_shard(core: Core) -> None:
    await core.route()
    await core.rerank(_passes)
    await core.start_job([Rerank()], [[question(n)] for n in range(3)], headers=PARENT)
    await core.report()
    await eventually(lambda: len(_spans("route report")) == 1)
    (report,) = _spans("route report")
    shards = {span.context.span_id for span in _spans("process rerank") if span.context}
    assert len(shards) == 3
    assert {link.context.span_id for link in report.links} == shards


async def test_of_a_large_job_some_shards_have_spans_and_so_has_its_report(core: Core) -> None:
    few = replace(core.hops, traced=2)
    await core.route(few)
    await core.rerank(_passes, hops=few)
    await replace(core, hops=few).start_job([Rerank()], [[question(n)] for n in range(6)], headers=RANDOM_PARENT)
    await core.report()
    await eventually(lambda: len(_spans("route report")) == 1)
    (report,) = _spans("route report")
    shards = {span.context.span_id for span in _spans("process rerank") if span.context}
    assert len(shards) == 2
    assert {link.context.span_id for link in report.links} == shards
    assert report.context is not None
    assert not report.context.trace_state


def test_what_others_have_switched_off_stays_off() -> None:
    off = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00", "tracestate": "other=1"}
    assert tracing.traced_again(tracing.untraced(off)) == off
    for nothing in ({}, {"traceparent": "nonsense"}):
        assert tracing.untraced(nothing) == nothing


@pytest.mark.parametrize(("parent", "flags"), [(PARENT, "00"), (RANDOM_PARENT, "02")])
def test_spans_are_switched_off_and_on_again(parent: dict[str, str], flags: str) -> None:
    on = {**parent, "tracestate": "other=1"}
    off = tracing.untraced(on)
    assert off["tracestate"] == "penstock=untraced,other=1"
    assert off["traceparent"] == parent["traceparent"][:-2] + flags
    assert tracing.traced_again(off) == on


def test_what_our_own_spans_write_can_be_switched_off() -> None:
    ours = telemetry_of("rerank")
    with ours.tracer.start_as_current_span("root"):
        headers = tracing.trace_headers()
    for head, recorded in ((headers, True), (tracing.untraced(headers), False)):
        with ours.hop("work.rerank.batch", head, 1):
            assert tracing.is_recording() is recorded


async def test_each_hop_leaves_a_record(core: Core) -> None:
    await core.route()
    await _generate(core)
    await _publish(core, [Generate(model="m")])
    await core.report()
    await eventually(lambda: _recorded(core, 2))
    records = await _records(core)
    generate, report = records
    assert (generate.service, generate.step, generate.model, generate.attempt) == ("generate", "generate", "m", 1)
    assert (generate.items, generate.failed, generate.usage.calls, generate.trace) == (1, 0, 1, TRACE)
    assert (report.service, report.step) == ("route", "report")


async def test_what_a_prompt_had_to_leave_out_is_recorded(core: Core) -> None:
    small = Catalogue(models=(Model(name="small", engine="noop", context=1024, default=True),))
    worker = await core.route()
    worker.on(Render, lambda task, step: handlers.render(task, step, load_prompts(), small))
    item = Item(n=0, input=Input(question="And now?"), history=[Message("user", "word " * 300) for _ in range(4)])
    await core.start_job([Render("direct")], [[item]])
    await core.report()
    await eventually(lambda: _recorded(core, 2))
    rendered = next(hop for hop in await _records(core) if hop.step == "render")
    assert rendered.truncated == 3


async def test_a_step_that_raises_is_recorded_with_its_error(core: Core) -> None:
    errors = [Retryable("429", after=0.05), Poison("no way")]

    async def fails(task: Task, step: Rerank) -> Sequence[Item]:
        raise errors.pop(0)

    await core.rerank(fails)
    await _publish(core, [Rerank()])
    await core.shard()
    await eventually(lambda: _recorded(core, 2))
    assert [(hop.attempt, hop.error) for hop in await _records(core)] == [(1, "429"), (2, "no way")]
    assert [span.status.description for span in _spans("rerank rerank")] == ["Retryable: 429", "Poison: no way"]


async def test_headers_that_are_no_trace_begin_a_new_one(core: Core) -> None:
    await core.rerank(_passes)
    await _publish(core, [Rerank()], {"traceparent": "nonsense"})
    await core.shard()
    await eventually(lambda: len(_spans("process rerank")) == 1)
    (span,) = _spans("process rerank")
    assert span.parent is None


async def _passes(task: Task, step: Rerank) -> Sequence[Item]:
    return task.items


async def _generate(core: Core) -> None:
    async def answer(task: Task, step: Generate) -> Sequence[Item]:
        usage = Usage(prompt_tokens=10, completion_tokens=2, calls=1)
        return [msgspec.structs.replace(item, answer=Answer("yes"), usage=usage) for item in task.items]

    worker = core.worker(GenerateSettings(ack_wait_s=2))
    worker.on(Generate, answer)
    await worker.start()


async def _publish(
    core: Core, steps: Sequence[Rerank | Scatter | Generate], headers: dict[str, str] | None = None
) -> None:
    """As start_job, within a trace."""
    await core.start_job(steps, [[question(0)]], headers=PARENT if headers is None else headers)


def _spans(name: str) -> list[ReadableSpan]:
    return [span for span in SPANS.get_finished_spans() if span.name == name]


def _parents(spans: Sequence[ReadableSpan]) -> dict[str, list[str]]:
    names = {span.context.span_id: span.name for span in spans if span.context}
    found: dict[str, list[str]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(names.get(span.parent.span_id, "") if span.parent else "")
    return found


def _ancestors(span: ReadableSpan) -> list[str]:
    """Names of the spans above, nearest first, without the steps inside a hop."""
    known = {each.context.span_id: each for each in SPANS.get_finished_spans() if each.context}
    found = []
    while span.parent is not None and span.parent.span_id in known:
        span = known[span.parent.span_id]
        found.append(span.name)
    return found


async def _records(core: Core) -> list[Hop]:
    found = await core.messages(EVENTS.name, subjects.events(core.tenant, "j1"))
    return [msgspec.json.decode(data, type=Hop) for data in found]


async def _recorded(core: Core, hops: int) -> bool:
    return len(await _records(core)) == hops
