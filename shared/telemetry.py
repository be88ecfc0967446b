"""Traces and metrics. All names of spans, attributes and instruments are here, after OpenTelemetry's conventions
for messaging and for generative AI. Nothing is exported unless an OTLP address or a port for Prometheus is set."""

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry import metrics, trace
from opentelemetry.metrics import Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON
from opentelemetry.trace import Span, SpanKind

from contracts.item import Item, Usage
from contracts.task import Tally, Task
from shared import VERSION
from shared.errors import PenstockError
from shared.logs import about
from shared.results import total
from shared.tracing import extract

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
OPERATION = "messaging.operation.type"
CONVERSATION = "messaging.message.conversation_id"
OPERATION_NAME = "messaging.operation.name"
CONSUMER = "messaging.consumer.group.name"
BATCH = "messaging.batch.message_count"
GEN_AI_OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
TOKEN_TYPE = "gen_ai.token.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
TENANT = "penstock.tenant"
USER = "penstock.user"  # in metrics only of those whom limits.yaml names: there would be a series for everybody
PATTERN = "penstock.pattern"
STEP = "penstock.step"
LANE = "penstock.lane"
PHASE = "penstock.phase"  # of a call in its engine: queue, prefill, decode
SERVICE = "penstock.service"
ATTEMPT = "penstock.attempt"
OUTCOME = "penstock.outcome"  # of an item: succeeded, or the code of its failure
MODE = "penstock.answer.mode"  # generated, extractive, degraded, refused
RUNG = "penstock.answer.rung"  # primary, backup, degraded
SCOPE = "penstock.limit.scope"  # tenant, user, model
LIMIT = "penstock.limit"  # rpm, tpm, rpd, usd_day, usd_month
CHECK = "penstock.check"
PASSED = "penstock.passed"
CACHE = "penstock.cache.name"  # answer, retrieval, embedding, passage
RESULT = "penstock.cache.result"  # hit, miss; of an answer: exact, semantic, checked, miss, changed, guarded
ERROR = "error.type"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
_TOKENS = tuple(float(4**power) for power in range(14))
"""The conventions' bounds of buckets, and some above them; the SDK's own are for milliseconds."""


@dataclass
class Telemetry:
    """One service's tracer and instruments."""

    service: str
    tracer: trace.Tracer
    hop_seconds: Histogram
    queue_seconds: Histogram
    tokens: Histogram
    first_token_seconds: Histogram
    phase_seconds: Histogram
    prompt_tokens: Counter
    cached_tokens: Counter
    cost: Counter
    items: Counter
    answers: Counter
    verdicts: Counter
    retries: Counter
    dead_letters: Counter
    limited: Counter
    lookups: Counter
    queue_depths: dict[tuple[str, str], int]  # by service and lane; what is in it is observed as a gauge
    breakers: dict[str, int]  # by model, 1: it is left alone; observed as a gauge
    names_user: Callable[[str, str], bool] = lambda tenant, user: False  # of a tenant: a series of its own for its cost
    _providers: list[TracerProvider | MeterProvider] = field(default_factory=list)

    @contextmanager
    def hop(self, subject: str, headers: Mapping[str, str] | None, attempt: int) -> Iterator[Span]:
        """The span of one message's handling, a child of the span that published it."""
        parent = extract(headers or {})
        attributes: dict[str, str | int] = {
            SYSTEM: "nats",
            DESTINATION: subject,
            OPERATION: "process",
            OPERATION_NAME: "process",
            CONSUMER: self.service,
            ATTEMPT: attempt,
        }
        name = f"process {self.service}"
        with (
            self.tracer.start_as_current_span(
                name, context=parent, kind=SpanKind.CONSUMER, attributes=attributes
            ) as span,
            about(headers),
        ):
            yield span

    @contextmanager
    def step(self, task: Task, name: str) -> Iterator[Span]:
        """The span of one step; its duration goes into the histogram too."""
        attributes: dict[str, str | int] = {STEP: name, TENANT: task.tenant, PATTERN: task.pattern}
        started = time.perf_counter()
        with self.tracer.start_as_current_span(
            f"{self.service} {name}", attributes={**attributes, CONVERSATION: task.job, BATCH: len(task.items)}
        ) as span:
            if task.user:
                span.set_attribute(USER, task.user)
            yield span
        self.hop_seconds.record(time.perf_counter() - started, attributes)

    def used(self, span: Span, task: Task, model: str, before: list[Item], after: list[Item]) -> Usage:
        """Note what a step has used: in its span, in the histogram of tokens, and by tenant what it cost."""
        used = _difference(before, after)
        if used.calls:
            whose = {TENANT: task.tenant, PATTERN: task.pattern, MODEL: model}
            user = task.user if task.user and self.names_user(task.tenant, task.user) else ""
            self.cost.add(used.cost_usd, whose | {USER: user})
            self.prompt_tokens.add(used.prompt_tokens, whose)
            self.cached_tokens.add(used.cached_tokens, whose)
            span.set_attributes(
                {
                    GEN_AI_OPERATION: "chat",
                    MODEL: model,
                    INPUT_TOKENS: used.prompt_tokens,
                    OUTPUT_TOKENS: used.completion_tokens,
                    CACHED_TOKENS: used.cached_tokens,
                }
            )
            what = {GEN_AI_OPERATION: "chat", MODEL: model}
            self.tokens.record(used.prompt_tokens, {**what, TOKEN_TYPE: "input"})
            self.tokens.record(used.completion_tokens, {**what, TOKEN_TYPE: "output"})
        return used

    def learnt(self, task: Task, before: list[Item], after: list[Item]) -> None:
        """Count the answers and verdicts that a step has added; once a kind, as counting takes longer than looking."""
        whose = {TENANT: task.tenant, PATTERN: task.pattern}
        modes: Counts[tuple[str, str]] = Counts()
        verdicts: Counts[tuple[str, bool]] = Counts()
        for was, item in zip(before, after, strict=True):
            if item.answer is not None and was.answer is None:
                modes[item.answer.mode, item.answer.rung] += 1
            if item.verdict is not None and item.verdict is not was.verdict:
                verdicts[item.verdict.check, item.verdict.passed] += 1
        for (mode, rung), count in modes.items():
            self.answers.add(count, {**whose, MODE: mode, RUNG: rung})
        for (check, passed), count in verdicts.items():
            self.verdicts.add(count, {**whose, CHECK: check, PASSED: passed})

    def met_limit(self, tenant: str, scope: str, limit: str, outcome: str, items: int) -> None:
        """Count items that have to wait for a limit, or that it refuses; those that wait are counted each time."""
        self.limited.add(items, {TENANT: tenant, SCOPE: scope, LIMIT: limit, OUTCOME: outcome})

    def looked_up(self, cache: str, result: str, times: int = 1, /) -> None:
        """Count what a cache was asked for."""
        self.lookups.add(times, {CACHE: cache, RESULT: result})

    def ended(self, task: Task, counts: Tally) -> None:
        """Count the items of a job that has its report."""
        whose = {TENANT: task.tenant, PATTERN: task.pattern}
        for outcome, count in ({"succeeded": counts.succeeded} | counts.reasons).items():
            self.items.add(count, {**whose, OUTCOME: outcome})

    def close(self) -> None:
        for provider in self._providers:
            provider.shutdown()


def start(
    service: str, otlp: str, replica: str, metrics_port: int = 0, spans: Sequence[SpanProcessor] = ()
) -> Telemetry:
    """Set up the SDK for one process; `otlp` is the base address of an OTLP-over-HTTP receiver, or empty,
    `metrics_port` where Prometheus finds `/metrics`, or 0, and `spans` who else gets the spans."""
    resource = Resource.create(
        {
            "service.name": f"penstock-{service}",
            "service.namespace": "penstock",
            "service.instance.id": replica,
            "service.version": VERSION,
        }
    )
    meters = MeterProvider(resource=resource, metric_readers=_readers(otlp, metrics_port))
    tracers = _tracers(resource, [*_exporters(otlp), *spans])
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    return _instruments(service, tracers, meters)


def _instruments(service: str, tracers: TracerProvider, meters: MeterProvider) -> Telemetry:
    meter = meters.get_meter("penstock")
    depths: dict[tuple[str, str], int] = {}
    meter.create_observable_gauge(
        "penstock.queue.depth", [lambda _: _observed(depths)], "{task}", "tasks that wait or are at work"
    )
    breakers: dict[str, int] = {}
    meter.create_observable_gauge(
        "penstock.breaker.open",
        [lambda _: [Observation(is_open, {MODEL: model}) for model, is_open in breakers.items()]],
        "{breaker}",
        "1 where a model is left alone",
    )

    def histogram(name: str, unit: str, about: str, bounds: Sequence[float] = _SECONDS) -> Histogram:
        return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds)

    return Telemetry(
        service=service,
        tracer=tracers.get_tracer("penstock"),
        hop_seconds=histogram("messaging.process.duration", "s", "time a step took"),
        queue_seconds=histogram("penstock.queue.duration", "s", "time a task waited in its queue"),
        tokens=histogram("gen_ai.client.token.usage", "{token}", "tokens of model calls", _TOKENS),
        first_token_seconds=histogram(
            "gen_ai.server.time_to_first_token",
            "s",
            "from a job's submission to the first token of an item",
            _FIRST_TOKEN,
        ),
        phase_seconds=histogram(
            "penstock.engine.phase.duration", "s", "time of a call in its engine: queue, prefill, decode", _FIRST_TOKEN
        ),
        prompt_tokens=meter.create_counter("penstock.tokens.prompt", "{token}", "tokens of prompts"),
        cached_tokens=meter.create_counter("penstock.tokens.cached", "{token}", "prompt tokens that came from a cache"),
        cost=meter.create_counter("penstock.cost", "USD", "what model calls cost"),
        items=meter.create_counter("penstock.items", "{item}", "items of jobs that have ended"),
        answers=meter.create_counter("penstock.answers", "{answer}", "answers made, by mode"),
        verdicts=meter.create_counter("penstock.verdicts", "{verdict}", "what judge found"),
        retries=meter.create_counter("penstock.retries", "{task}", "tasks that are to come again"),
        dead_letters=meter.create_counter("penstock.dead_letters", "{task}", "tasks given up"),
        limited=meter.create_counter("penstock.limited", "{item}", "items that met a limit, by what became of them"),
        lookups=meter.create_counter("penstock.cache.lookups", "{lookup}", "what caches were asked for"),
        queue_depths=depths,
        breakers=breakers,
        _providers=[tracers, meters],
    )


def _observed(depths: Mapping[tuple[str, str], int]) -> list[Observation]:
    return [Observation(depth, {SERVICE: service, LANE: lane}) for (service, lane), depth in depths.items()]


def _tracers(resource: Resource, processors: Sequence[SpanProcessor]) -> TracerProvider:
    """Where nobody gets the spans they are not recorded; their ids travel all the same."""
    tracers = TracerProvider(resource=resource, sampler=DEFAULT_ON if processors else ALWAYS_OFF)
    for processor in processors:
        tracers.add_span_processor(processor)
    return tracers


def _exporters(otlp: str) -> list[SpanProcessor]:
    if not otlp:
        return []
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return [BatchSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces"))]


def _readers(otlp: str, port: int) -> list[MetricReader]:
    readers: list[MetricReader] = []
    if otlp and not port:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        exporter = OTLPMetricExporter(f"{otlp}/v1/metrics")
        readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=10_000))
    if port:
        from prometheus_client import start_http_server

        from shared.exemplars import ExemplarReader

        readers.append(ExemplarReader())
        try:
            start_http_server(port)
        except OSError:
            raise PenstockError(f"PENSTOCK_METRICS_PORT: port {port} is taken by another process") from None
    return readers


def _difference(before: list[Item], after: list[Item]) -> Usage:
    was, now = total(before), total(after)
    return Usage(
        now.prompt_tokens - was.prompt_tokens,
        now.cached_tokens - was.cached_tokens,
        now.completion_tokens - was.completion_tokens,
        now.calls - was.calls,
        now.cost_usd - was.cost_usd,
    )
