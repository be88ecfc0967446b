"""Generate: complete the messages of every item with a model."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

from jsonschema import Draft202012Validator
from msgspec.structs import replace

from contracts import subjects
from contracts.item import Failure, Item, Usage
from contracts.steps import Generate, Judge, Remember
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.domain.answer import answered, charged
from services.generate_gpu.domain.breaker import Breakers, Unguarded
from services.generate_gpu.domain.completion import CompletionRequest, Engine, request_for
from services.generate_gpu.domain.ladder import Due, Ladder, ladder
from services.generate_gpu.domain.ledger import Entry, Ledger, Paid
from services.generate_gpu.domain.load import Load
from services.generate_gpu.domain.output import checker
from services.generate_gpu.domain.permits import Limited, Permits, Unlimited, unlimited
from services.generate_gpu.domain.purchase import Purchase
from services.generate_gpu.domain.remembering import remembering
from services.generate_gpu.domain.shares import Shares
from services.generate_gpu.domain.stream import Publisher, TokenStream
from services.generate_gpu.domain.watch import unless
from shared.attempts import Attempts, MemoryAttempts
from shared.errors import ItemError, Later, Rejected, Retryable
from shared.models import Catalogue, Model

SERVICE = "generate"


@dataclass(frozen=True)
class Workshop:
    """What the handler works with."""

    catalogue: Catalogue
    engines: Mapping[str, Engine]  # by the model's name
    ledger: Ledger
    publisher: Publisher
    attempts: Attempts = field(default_factory=MemoryAttempts)  # of streams
    items_at_once: int = 16  # of a shard
    tries: int = 5  # deliveries in which calls for an item may fail before the item does
    longest_pause_s: float = math.inf  # of a shard: the ledger must still know it when it is back
    cancelled: Callable[[str, str], str | None] = lambda tenant, job: None
    breakers: Breakers = field(default_factory=Unguarded)
    limits: Limited | Unlimited = field(default_factory=Unlimited)
    load: Load = field(default_factory=Load)
    shares: Shares = field(default_factory=lambda: Shares(1000))
    clock: Callable[[], float] = time.time


async def generate(task: Task, step: Generate, workshop: Workshop) -> list[Item]:
    """Every item with completions, and an answer where `n` is 1, in the order given.

    Items are worked on at the same time; one that fails for good has its failure, the others go on. Raises Retryable
    once all are settled, where at least one may go better later: what the others cost is booked and not paid again.
    Raises Later at once where the model holds its share of the slots for people (`domain/shares.py`).
    """
    with _slot(task, step, workshop):
        return await _generated(task, step, workshop)


@contextmanager
def _slot(task: Task, step: Generate, workshop: Workshop) -> Iterator[None]:
    """Batches, and what was sent to this replica by name, have slots of their own; no model is no model's slot."""
    asked = step.model or workshop.catalogue.default.name
    model = next((model for model in workshop.catalogue.models if model.name == asked), None)
    if task.lane == "batch" or step.replica or model is None:
        yield
        return
    with workshop.shares.held(model.name, bounded=workshop.breakers.guards(model)):
        yield


async def _generated(task: Task, step: Generate, workshop: Workshop) -> list[Item]:
    try:
        bench = await _bench(task, step, workshop)
    except (Rejected, ItemError) as error:
        code = error.code if isinstance(error, ItemError) else "upstream"
        return [replace(item, failure=Failure(code, str(error), SERVICE)) for item in task.items]
    if bench.permits is None and bench.ladder.first.instant and not step.stream and step.schema is None:
        return [await bench.at_once(item) for item in task.items]
    with workshop.load.of(len(task.items)):
        await bench.ask()
        ended = await asyncio.gather(*(bench.settle(item) for item in task.items), return_exceptions=True)
        await bench.report()
    results = [_unless_fault(each) for each in ended]
    settled = [result.failed if isinstance(result, _Again) else result for result in results]
    again = [result for result in results if isinstance(result, _Again)]
    if again:
        raise _pause(again, settled, workshop.longest_pause_s)
    return settled


@dataclass(frozen=True)
class _Again:
    """An item whose call may go better later, and what it is where there is no later."""

    error: Retryable
    failed: Item
    left_s: float  # then another rung should answer it; 0: nothing is known of such a time


def _unless_fault(ended: Item | _Again | BaseException) -> Item | _Again:
    """A fault of ours is raised once the other items are settled, so that nothing of them is lost."""
    if isinstance(ended, BaseException):
        raise ended
    return ended


def _pause(again: Sequence[_Again], settled: list[Item], longest_s: float) -> Retryable:
    """When the shard comes back: as late as it was asked to, but before another rung would answer one of its items, and
    while the ledger knows the others."""
    most_s = min([longest_s, *(one.left_s for one in again if one.left_s)])
    later = [one.error for one in again if isinstance(one.error, Later)]
    if later:
        first = min(later, key=lambda error: error.after)  # as long as the first of them has to wait
        return Later(str(first), after=min(first.after, most_s))
    worst = max((one.error for one in again), key=lambda error: error.after or 0.0)
    after = None if worst.after is None else min(worst.after, most_s)
    return Retryable(str(worst), after=after, settled=settled)


@dataclass(frozen=True)
class _Bench:
    """One shard at work."""

    task: Task
    step: Generate
    workshop: Workshop
    model: Model
    ladder: Ladder
    ledger: Ledger
    validator: Draft202012Validator | None
    paid: Mapping[int, Paid]
    permits: Permits | None  # None: nothing is limited
    gate: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    used: dict[int, dict[str, Usage]] = field(default_factory=dict)  # by all calls so far, by item and model

    async def ask(self) -> None:
        """Ask for the permits of all items at once; what was paid for before needs none. Raises Retryable."""
        if self.permits is not None:
            needy = [item for item in self.task.items if len(self.paid.get(item.n, Paid()).drawn) < self.step.n]
            await self.permits.ask({item.n: self._request(item) for item in needy}, self.ladder.left_alone)

    async def report(self) -> None:
        """Say what the calls have used."""
        if self.permits is not None:
            await self.permits.settle(self.used)

    async def at_once(self, item: Item) -> Item:
        """Without waiting there is nothing to book or to watch over; a bench measures the rest of the way."""
        completions = await self.ladder.first.complete(self._request(item))
        return charged(answered(item, completions, self.step.n), completions[0].usage)

    async def settle(self, item: Item) -> Item | _Again:
        async with self.gate:
            stream = self._stream(item)
            entry = Entry(self.task.id, self.task.hop, item.n)
            paid = self.paid.get(item.n, Paid())
            permit = unlimited if self.permits is None else self.permits.of(item.n)
            purchase = Purchase(
                self.ladder, self._due(item), self.ledger, entry, paid, self.workshop.tries, stream, permit
            )
            try:
                if self.permits is not None:
                    self.permits.check(item.n)
                done = await self._completed(item, purchase)
            except ItemError as error:
                done = replace(item, failure=error.failure(SERVICE))
            except Retryable as error:
                failed = replace(item, failure=Failure("upstream", f"given up: {error}", SERVICE))
                left_s = 0.0 if isinstance(error, Later) else self._due(item).left(0.0)  # who waits knows how long
                return _Again(error, charged(failed, purchase.usage), left_s)
            finally:
                self.used[item.n] = purchase.used
            if stream is not None:
                await stream.close(_finish(done))
            return charged(done, purchase.usage)

    async def _completed(self, item: Item, purchase: Purchase) -> Item:
        drawing = purchase.completions(self._request(item), self.validator)
        return answered(item, await unless(lambda: self._given_up(item), drawing), self.step.n)

    def _given_up(self, item: Item) -> ItemError | None:
        reason = self.workshop.cancelled(self.task.tenant, self.task.job)
        if reason is not None:
            return ItemError("cancelled", reason)
        now = self.workshop.clock()
        if item.deadline is not None and now >= item.deadline:
            return ItemError("deadline_exceeded", f"no answer of the model {self.model.name!r} within the deadline")
        if self.task.deadline is not None and now >= self.task.deadline:
            return ItemError("deadline_exceeded", "the job's deadline_s was over while the model answered")
        return None

    @cached_property
    def _final(self) -> bool:
        return _is_final(self.task)

    def _request(self, item: Item) -> CompletionRequest:
        return request_for(item, self.step, self.task.lane, self.task.tenant, final=self._final)

    def _stream(self, item: Item) -> TokenStream | None:
        if not self.step.stream or self.step.n != 1:
            return None
        place = subjects.tokens(self.task.tenant, self.task.job, item.n)
        return TokenStream(self.workshop.publisher, place, partial(self.workshop.attempts.begin, self.task.id, item.n))

    def _due(self, item: Item) -> Due:
        policy = self.model.patience
        deadlines = [deadline for deadline in (item.deadline, self.task.deadline) if deadline is not None]
        waits_s = policy.batch if self.task.lane == "batch" else policy.interactive
        return Due(waits_s, policy.margin, min(deadlines, default=None), self.workshop.clock)


async def _bench(task: Task, step: Generate, workshop: Workshop) -> _Bench:
    models = _able(step, workshop.catalogue.ladder(step.model))
    rungs = remembering(ladder(models, workshop.engines, workshop.breakers), workshop.load, step.prefix)
    permits = workshop.limits.of(task, models)
    ledger = workshop.ledger if permits is not None or rungs.paid else MemoryLedger()  # what costs nothing: not booked
    return _Bench(
        task=task,
        step=step,
        workshop=workshop,
        model=models[0],
        ladder=rungs,
        ledger=ledger,
        validator=None if step.schema is None else checker(step.schema),
        paid=await ledger.read(task.id, task.hop),
        permits=permits,
        gate=asyncio.Semaphore(workshop.items_at_once),
    )


def _able(step: Generate, models: Sequence[Model]) -> list[Model]:
    """The models that can do what the step asks. Raises ItemError where its own model cannot."""
    for model in models[:1]:
        if step.tools and not model.tools:
            raise ItemError("malformed", f"options.tools: the model {model.name!r} takes no tools (models.yaml: tools)")
        if step.logprobs and not model.logprobs:
            raise ItemError("malformed", f"options.logprobs: the model {model.name!r} knows no probabilities of tokens")
    return [model for model in models if (model.tools or not step.tools) and (model.logprobs or not step.logprobs)]


def _finish(item: Item) -> str:
    if item.failure is not None:
        return item.failure.code
    return item.answer.finish_reason if item.answer is not None else "stop"


def _is_final(task: Task) -> bool:
    """Whether what is generated now is what the user gets: no part of something, and no step goes on with it."""
    whole = task.group == subjects.job_group(task.tenant, task.job)
    after = [step for step in task.steps[1:] if not isinstance(step, Remember)]
    return whole and all(isinstance(step, Judge) and step.check == "grounding" for step in after)
