"""Traces and metrics. All names of spans, attributes and instruments are here, after OpenTelemetry's conventions
for messaging and for generative AI. Nothing is exported unless an OTLP address is set."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry import metrics, trace
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from contracts.item import Item, Usage
from contracts.task import Task

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
OPERATION = "messaging.operation.type"
CONVERSATION = "messaging.message.conversation_id"
BATCH = "messaging.batch.message_count"
MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TENANT = "penstock.tenant"
PATTERN = "penstock.pattern"
STEP = "penstock.step"
LANE = "penstock.lane"
ATTEMPT = "penstock.attempt"

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass
class Telemetry:
    """One service's tracer and instruments."""

    service: str
    tracer: trace.Tracer
    hop_seconds: Histogram
    queue_seconds: Histogram
    tokens: Histogram
    first_token_seconds: Histogram
    _providers: list[TracerProvider | MeterProvider] = field(default_factory=list)

    @contextmanager
    def hop(self, subject: str, headers: Mapping[str, str] | None, attempt: int) -> Iterator[Span]:
        """The span of one message's handling, a child of the span that published it."""
        parent = _PROPAGATOR.extract(dict(headers or {}))
        attributes: dict[str, str | int] = {
            SYSTEM: "nats",
            DESTINATION: subject,
            OPERATION: "process",
            ATTEMPT: attempt,
        }
        with self.tracer.start_as_current_span(
            f"process {self.service}", context=parent, kind=SpanKind.CONSUMER, attributes=attributes
        ) as span:
            yield span

    @contextmanager
    def step(self, task: Task, name: str) -> Iterator[Span]:
        """The span of one step; its duration goes into the histogram too."""
        attributes: dict[str, str | int] = {STEP: name, TENANT: task.tenant, PATTERN: task.pattern}
        started = time.perf_counter()
        with self.tracer.start_as_current_span(
            f"{self.service} {name}", attributes={**attributes, CONVERSATION: task.job, BATCH: len(task.items)}
        ) as span:
            yield span
        self.hop_seconds.record(time.perf_counter() - started, attributes)

    def used(self, span: Span, model: str, before: list[Item], after: list[Item]) -> Usage:
        """Note the tokens that a step has used: in its span and in the histogram."""
        used = _difference(before, after)
        if used.calls:
            span.set_attributes({MODEL: model, INPUT_TOKENS: used.prompt_tokens, OUTPUT_TOKENS: used.completion_tokens})
            self.tokens.record(used.prompt_tokens, {MODEL: model, "gen_ai.token.type": "input"})
            self.tokens.record(used.completion_tokens, {MODEL: model, "gen_ai.token.type": "output"})
        return used

    def close(self) -> None:
        for provider in self._providers:
            provider.shutdown()


def start(service: str, otlp: str, replica: str) -> Telemetry:
    """Set up the SDK for one process; `otlp` is the base address of an OTLP-over-HTTP receiver, or empty."""
    resource = Resource.create(
        {"service.name": f"penstock-{service}", "service.namespace": "penstock", "service.instance.id": replica}
    )
    tracers = TracerProvider(resource=resource)
    meters = MeterProvider(resource=resource, metric_readers=_readers(otlp))
    if otlp:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces")))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    meter = meters.get_meter("penstock")
    return Telemetry(
        service=service,
        tracer=tracers.get_tracer("penstock"),
        hop_seconds=meter.create_histogram("messaging.process.duration", "s", "time a step took"),
        queue_seconds=meter.create_histogram("penstock.queue.duration", "s", "time a task waited in its queue"),
        tokens=meter.create_histogram("gen_ai.client.token.usage", "{token}", "tokens of model calls"),
        first_token_seconds=meter.create_histogram(
            "gen_ai.server.time_to_first_token", "s", "from a job's submission to the first token of an item"
        ),
        _providers=[tracers, meters],
    )


def trace_headers() -> dict[str, str]:
    """The current span's context, for the headers of a message."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def failed(span: Span, reason: str) -> None:
    span.set_status(Status(StatusCode.ERROR, reason))


def _readers(otlp: str) -> list[PeriodicExportingMetricReader]:
    if not otlp:
        return []
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return [PeriodicExportingMetricReader(OTLPMetricExporter(f"{otlp}/v1/metrics"), export_interval_millis=10_000)]


def _difference(before: list[Item], after: list[Item]) -> Usage:
    def total(items: list[Item]) -> tuple[int, int, int, int, float]:
        rows = [
            (u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.calls, u.cost_usd)
            for u in (item.usage for item in items)
        ]
        a, b, c, d, e = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0, 0, 0, 0.0)
        return int(a), int(b), int(c), int(d), float(e)

    was, now = total(before), total(after)
    return Usage(now[0] - was[0], now[1] - was[1], now[2] - was[2], now[3] - was[3], now[4] - was[4])
