"""Exemplars for Prometheus: of each bucket of a histogram one measurement, with the trace that it was made in.

OpenTelemetry's exporter for Prometheus leaves them out, so they are put back here, into what it gives. They are seen
by scrapers that ask for OpenMetrics, as Prometheus does with `--enable-feature=exemplar-storage`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, MetricsData
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Exemplar, Sample

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_SCOPE = "otel_scope_"

Series = tuple[str, frozenset[tuple[str, str]]]  # the instrument, and its labels without `le`


class ExemplarReader(PrometheusMetricReader):
    """OpenTelemetry's reader, registered with exemplars on its histograms."""

    def __init__(self) -> None:
        plain = CollectorRegistry()
        self._found: dict[Series, list[Exemplar]] = {}
        super().__init__(registry=plain)
        REGISTRY.register(_WithExemplars(plain, self._found))

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self._found.clear()
        self._found.update(_exemplars(metrics_data))
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)


class _WithExemplars(Collector):
    def __init__(self, plain: CollectorRegistry, found: dict[Series, list[Exemplar]]) -> None:
        self._plain = plain
        self._found = found

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers it would collect before there is anything to collect from."""
        return []

    def collect(self) -> Iterator[Metric]:
        for family in self._plain.collect():
            if family.type == "histogram":
                family.samples = list(self._marked(family))
            yield family

    def _marked(self, family: Metric) -> Iterator[Sample]:
        """Each bucket with the last exemplar that falls into it, and not into one before it."""
        name = next((name for name, _ in self._found if f"{family.name}_".startswith(f"{name}_")), "")
        below: dict[frozenset[tuple[str, str]], float] = {}
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                yield sample
                continue
            labels = _labels(sample.labels)
            low, high = below.get(labels, float("-inf")), float(sample.labels["le"])
            below[labels] = high
            inside = [one for one in self._found.get((name, labels), ()) if low < one.value <= high]
            yield sample._replace(exemplar=inside[-1]) if inside else sample


def _exemplars(data: MetricsData) -> dict[Series, list[Exemplar]]:
    """What was measured within a span that is recorded, by series, the newest last."""
    scopes = (scope for resource in data.resource_metrics for scope in resource.scope_metrics)
    histograms = (metric for scope in scopes for metric in scope.metrics if isinstance(metric.data, Histogram))
    found = {}
    for metric in histograms:
        for point in metric.data.data_points:
            some = sorted(_of(point), key=_when) if isinstance(point, HistogramDataPoint) else []
            if some:
                labels = {_NOT_IN_NAMES.sub("_", name): str(value) for name, value in (point.attributes or {}).items()}
                found[_NOT_IN_NAMES.sub("_", metric.name), frozenset(labels.items())] = some
    return found


def _of(point: HistogramDataPoint) -> Iterable[Exemplar]:
    for one in point.exemplars:
        if one.trace_id and one.span_id:
            ids = {"trace_id": f"{one.trace_id:032x}", "span_id": f"{one.span_id:016x}"}
            yield Exemplar(ids, one.value, one.time_unix_nano / 1e9)


def _when(one: Exemplar) -> float:
    return float(one.timestamp or 0)


def _labels(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != "le" and not name.startswith(_SCOPE))
