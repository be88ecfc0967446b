"""The audit log: one record of every step in `events.<tenant>.<job>`, and the same in spans and histograms."""

import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from contracts import subjects
from contracts.events import Hop
from contracts.item import Item, Timing, Usage
from contracts.steps import AnyStep, Generate
from contracts.task import Task
from shared.bus import Bus
from shared.delivery import Delivery
from shared.errors import PenstockError
from shared.logs import Samples
from shared.outcome import truncated
from shared.rungs import below_primary, lowest
from shared.telemetry import LANE, MODEL, PHASE, Telemetry
from shared.tracing import failed, trace_id


@dataclass
class Record:
    """What a step did, filled in while it runs."""

    after: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """Writes the records. They are sent without waiting: an audit record must not slow an answer."""

    bus: Bus
    service: str
    replica: str
    telemetry: Telemetry
    samples: Samples = field(default_factory=Samples)

    @asynccontextmanager
    async def step(self, task: Task, step: AnyStep, delivery: Delivery, items: list[Item]) -> AsyncIterator[Record]:
        """Around one step: measures it, and records it whether it succeeds or fails."""
        record = Record()
        name = type(step).__name__.lower()
        queued = delivery.queued_ms
        started = time.perf_counter()
        error = ""
        usage = Usage()
        model = step.model if isinstance(step, Generate) else ""
        with self.telemetry.step(task, name) as span:
            try:
                yield record
                if record.after:
                    for made_by, was, now in by_model(model, items, record.after):
                        usage += self.telemetry.used(span, task, made_by, was, now)
                    self.telemetry.learnt(task, items, record.after)
                    self.samples.take(task, items, record.after)
            except PenstockError as failure:
                error = str(failure)
                failed(span, error)
                raise
            finally:
                if name == "generate":
                    self._measure(task, model, record.after)
                took = (time.perf_counter() - started) * 1000
                hop = self._hop(task, name, items, record)
                await self._write(
                    msgspec.structs.replace(
                        hop, queued_ms=round(queued, 3), took_ms=round(took, 3), attempt=delivery.attempt,
                        model=model, usage=usage, error=error, trace=trace_id(),
                    ),
                    delivery.run,
                )  # fmt: skip
        self.telemetry.queue_seconds.record(queued / 1000, {LANE: task.lane})

    def _measure(self, task: Task, model: str, items: list[Item]) -> None:
        """How long people waited for a first token, and what engines spent where."""
        whose = {MODEL: model, LANE: task.lane}
        for first in firsts(task, items):
            self.telemetry.first_token_seconds.record(first / 1000, whose)
        for phase, took_ms in phases(items):
            self.telemetry.phase_seconds.record(took_ms / 1000, whose | {PHASE: phase})

    async def opened(self, parent: Task, delivery: Delivery, items: int, failed: int, began: float) -> None:
        """The record of a job's opening; `began` is the reading of time.perf_counter() when it began."""
        took = (time.perf_counter() - began) * 1000
        queued = max(0.0, delivery.queued_ms - took)
        record = Hop(
            tenant=parent.tenant, job=parent.job, task=parent.id, service=self.service, step="open", hop=0,
            at=time.time(), queued_ms=round(queued, 3), took_ms=round(took, 3), items=items, failed=failed,
            attempt=delivery.attempt, replica=self.replica, trace=trace_id(), pattern=parent.pattern, user=parent.user,
        )  # fmt: skip
        await self._write(record, delivery.attempt)

    def _hop(self, task: Task, name: str, items: list[Item], record: Record) -> Hop:
        after = record.after
        ttft, waited, prefill, decode = _timing(task, after) if name == "generate" else (0.0, 0.0, 0.0, 0.0)
        fresh = [one for item in after for one in item.completions] if name == "generate" else []
        return Hop(
            tenant=task.tenant,
            job=task.job,
            task=task.id,
            service=self.service,
            step=name,
            hop=task.hop,
            at=time.time(),
            items=len(items),
            failed=sum(1 for item in after if not item.alive),
            prompt=next((item.prompt for item in after if item.prompt), ""),
            passages=sum(len(item.passages) for item in after),
            truncated=sum(truncated(item) for item in after) if name == "render" else 0,
            replica=self.replica,
            details=kept_answers(items, after),
            ttft_ms=ttft,
            engine_queue_ms=waited,
            prefill_ms=prefill,
            decode_ms=decode,
            rungs=below_primary(fresh),
            why=lowest(fresh)[1],
            pattern=task.pattern,
            user=task.user,
        )

    async def _write(self, hop: Hop, run: int) -> None:
        await self.bus.nc.publish(
            subjects.events(hop.tenant, hop.job),
            msgspec.json.encode(hop),
            headers={subjects.MSG_ID: f"{hop.task}.{hop.hop}.{hop.step}.{run}"},
        )


def by_model(asked: str, before: list[Item], after: list[Item]) -> list[tuple[str, list[Item], list[Item]]]:
    """Items before and after a step by the model that answered, which need not be the one that was asked for."""
    groups: dict[str, tuple[list[Item], list[Item]]] = {}
    for was, now in zip(before, after, strict=True):
        name = now.completions[0].model if asked and now.completions else asked
        some = groups.setdefault(name, ([], []))
        some[0].append(was)
        some[1].append(now)
    return [(name, *some) for name, some in groups.items()]


def kept_answers(before: list[Item], after: list[Item]) -> dict[str, str]:
    """How many items got an answer that was kept from before, by kind; nothing where none did."""
    kinds = Counter(
        item.answer.cached.kind
        for was, item in zip(before, after, strict=False)
        if was.answer is None and item.answer is not None and item.answer.cached is not None
    )
    return {"cached": ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))} if kinds else {}


def firsts(task: Task, items: list[Item]) -> list[float]:
    """Milliseconds from the job's submission to the first token of each item, where the engine says when it came."""
    if not task.submitted_at:
        return []
    return [max(0.0, (timing.first_at - task.submitted_at) * 1000) for timing in _timings(items) if timing.first_at]


def phases(items: list[Item]) -> list[tuple[str, float]]:
    """Milliseconds of each call in its engine's queue, for its prompt and for the rest, where the engine says so."""
    return [
        phase
        for timing in _told(items)
        for phase in (("queue", timing.queue_ms), ("prefill", timing.prefill_ms), ("decode", timing.decode_ms))
    ]


def _timing(task: Task, items: list[Item]) -> tuple[float, float, float, float]:
    """Means over the items: to the first token, in the engine's queue, for the prompt, for the rest."""
    told = _told(items)
    return (
        _mean(firsts(task, items)),
        _mean([timing.queue_ms for timing in told]),
        _mean([timing.prefill_ms for timing in told]),
        _mean([timing.decode_ms for timing in told]),
    )


def _told(items: list[Item]) -> list[Timing]:
    """Of calls whose engine says how long each phase took."""
    return [timing for timing in _timings(items) if timing.prefill_ms]


def _timings(items: list[Item]) -> list[Timing]:
    return [item.completions[0].timing for item in items if item.alive and item.completions]


def _mean(values: list[float]) -> float:
    return round(statistics.fmean(values), 3) if values else 0.0
