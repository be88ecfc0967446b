"""The trace of a message: its context travels in the headers (W3C Trace Context)."""

from collections.abc import Iterable, Mapping
from itertools import islice

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

LINKS = 128
"""To how many spans one links at most; the SDK keeps no more."""

_UNTRACED = "penstock=untraced"
_PROPAGATOR = TraceContextTextMapPropagator()


def trace_headers() -> dict[str, str]:
    """The current span's context, for the headers of a message."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def extract(headers: Mapping[str, str]) -> Context:
    """The context of whoever wrote these headers."""
    return _PROPAGATOR.extract(dict(headers))


def untraced(headers: Mapping[str, str]) -> dict[str, str]:
    """The same trace, of which what follows records no spans until `traced_again`: its flag `sampled` (W3C Trace
    Context) is taken away, and `tracestate` says by whom."""
    flags = _flags(headers)
    if not flags & TraceFlags.SAMPLED:
        return dict(headers)
    state = ",".join(filter(None, (_UNTRACED, headers.get("tracestate", ""))))
    return {**headers, "traceparent": _flagged(headers, flags & ~TraceFlags.SAMPLED), "tracestate": state}


def traced_again(headers: Mapping[str, str]) -> dict[str, str]:
    """Undo `untraced`; what others have switched off stays so."""
    state = headers.get("tracestate", "").split(",")
    if _UNTRACED not in state:
        return dict(headers)
    rest = [entry for entry in state if entry != _UNTRACED]
    traceparent = _flagged(headers, _flags(headers) | TraceFlags.SAMPLED)
    return {**headers, "traceparent": traceparent, "tracestate": ",".join(rest)}


def trace_id() -> str:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def link(children: Iterable[Mapping[str, str]]) -> None:
    """Link the current span to those that wrote these messages, by their headers; some of them where they are many."""
    span = trace.get_current_span()
    for headers in islice(children, LINKS):
        context = trace.get_current_span(extract(headers)).get_span_context()
        if context.is_valid and context.trace_flags.sampled:
            span.add_link(context)


def is_recording() -> bool:
    """Whether somebody gets the current span."""
    return trace.get_current_span().is_recording()


def failed(span: Span, reason: str) -> None:
    span.set_status(Status(StatusCode.ERROR, reason))


def _flags(headers: Mapping[str, str]) -> int:
    """The last field of a traceparent, two hexadecimal digits; other bits than `sampled` may be set too."""
    try:
        return int(headers.get("traceparent", "")[-2:], 16)
    except ValueError:
        return 0


def _flagged(headers: Mapping[str, str], flags: int) -> str:
    return f"{headers['traceparent'][:-2]}{flags:02x}"
