"""What services write to their logs: lines for people, or one JSON object a line, with the job and the trace.

Prompts, answers and passages are never logged, but for tenants who are sampled on purpose, and then redacted.
"""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import msgspec
from opentelemetry import trace

from contracts.item import Item
from contracts.subjects import SHARD
from contracts.task import Task
from shared.redact import redacted

samples = logging.getLogger("penstock.sample")

Form = Literal["text", "json"]

_JOB: ContextVar[tuple[str, str]] = ContextVar("job", default=("", ""))


@contextmanager
def about(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Lines that are logged inside name the tenant and the job of this message."""
    group = (headers or {}).get(SHARD, "").partition(" ")[0]
    tenant, _, rest = group.partition("/")
    token = _JOB.set((tenant, rest.partition("/")[0]))
    try:
        yield
    finally:
        _JOB.reset(token)


def start(level: str, form: Form, service: str, replica: str) -> None:
    """Set up logging for one process."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json(service, replica) if form == "json" else Text())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Text(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        where = " ".join(f"{name}={value}" for name, value in _where().items())
        first, newline, rest = line.partition("\n")
        return f"{first} [{where}]{newline}{rest}" if where else line


class Json(logging.Formatter):
    """For machines: names as OpenTelemetry's data model of logs has them, as far as it does."""

    def __init__(self, service: str, replica: str) -> None:
        super().__init__()
        self._who = {"service": f"penstock-{service}", "replica": replica}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "severity": record.levelname,
            "logger": record.name,
            "body": record.getMessage(),
            **self._who,
            **_where(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


@dataclass(frozen=True)
class Samples:
    """Whose questions and answers are logged, redacted, and what share of them."""

    tenants: frozenset[str] = frozenset()
    share: float = 1.0

    def take(self, task: Task, before: Sequence[Item], after: Sequence[Item]) -> None:
        """Log the answers that a step has made."""
        if task.tenant not in self.tenants:
            return
        for was, item in zip(before, after, strict=True):
            if item.answer is not None and was.answer is None and random.random() < self.share:
                fields = {
                    "tenant": task.tenant,
                    "job": task.job,
                    "item": item.n,
                    "question": redacted(item.input.question),
                    "answer": redacted(item.answer.text),
                }
                samples.info("item %d: %s → %s", item.n, fields["question"], fields["answer"], extra={"fields": fields})


def _where() -> dict[str, str]:
    tenant, job = _JOB.get()
    context = trace.get_current_span().get_span_context()
    found = {"tenant": tenant, "job": job}
    if context.is_valid:
        found |= {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    return {name: value for name, value in found.items() if value}
