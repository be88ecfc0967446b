"""The ladder: the model that was asked for, then its backups, then what can always answer. The first that answers does.

Who waits for an answer is passed down at once; a batch waits for the model that it asked for, as its patience allows
(docs/failover.md). A completion says which rung gave it, and what was wrong with those above.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from contracts.item import Completion, Rung
from services.generate_gpu.domain.breaker import Breakers, Open, Permit, Told
from services.generate_gpu.domain.completion import Away, CompletionRequest, Engine, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.permits import PassedOver
from shared.errors import ItemError, Later, Retryable, Unusable
from shared.models import Model

_WHY = 300


@dataclass(frozen=True)
class Step:
    """One rung."""

    model: Model
    engine: Engine
    rung: Rung


Begin = Callable[[Step, CompletionRequest], Awaitable[OnDelta | None]]
"""Called before every call: gets its permit, begins the stream anew, and says where its pieces go. What it raises ends
the item's turn; PassedOver ends the rung's alone."""


@dataclass(frozen=True)
class Due:
    """How long an item may still wait for the model that it asked for."""

    policy_s: float  # of a model's being away
    margin_s: float
    deadline: float | None  # unix seconds
    now: Callable[[], float] = time.time

    def left(self, down_s: float) -> float:
        """Seconds; 0: the next rung answers."""
        left = self.policy_s - down_s
        if self.deadline is not None:
            left = min(left, self.deadline - self.margin_s - self.now())
        return max(left, 0.0)


@dataclass(frozen=True)
class _Fell:
    """A rung that gave no answer. `open` where its breaker is (now) open; `called` unless its model was left alone."""

    model: str
    error: Retryable | ItemError
    open: Open | None = None
    called: bool = True

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class Ladder:
    """Rungs in their order, the first is the model that was asked for."""

    steps: Sequence[Step]
    breakers: Breakers

    @property
    def first(self) -> Engine:
        return self.steps[0].engine

    @property
    def paid(self) -> bool:
        """Whether a call may cost money."""
        return any(step.engine.paid for step in self.steps)

    def through(self, meter: Callable[[Step], Engine]) -> "Ladder":
        """The same rungs, with what `meter` makes of them in place of their engines."""
        return replaced(self, steps=[replaced(step, engine=meter(step)) for step in self.steps])

    async def left_alone(self) -> bool:
        """Whether the model that was asked for is left alone, or by all but a probe. Raises Retryable."""
        model = self.steps[0].model
        return self.breakers.guards(model) and await self.breakers.away(model)

    def maker(self, completion: Completion) -> Model:
        """The model that made a completion."""
        return next((step.model for step in self.steps if step.model.name == completion.model), self.steps[0].model)

    async def complete(self, request: CompletionRequest, begin: Begin, due: Due, last_try: bool) -> list[Completion]:
        """One to `n` completions of the first rung that answers. `last_try`: a further failure is not waited for.

        Raises Later where the model is away and the item can wait; Retryable where no rung answered and one may do so
        soon; ItemError where none will.
        """
        fallen: list[_Fell] = []
        for step in self.steps:
            result = await self._tried(step, request, begin, is_last=step is self.steps[-1])
            if not isinstance(result, _Fell):
                return _signed(result, step, fallen)
            fallen.append(result)
            if step.rung == "primary":
                _wait_or_go_down(result, due, last_try)
        raise _nobody(fallen)

    async def _tried(
        self, step: Step, request: CompletionRequest, begin: Begin, *, is_last: bool
    ) -> list[Completion] | _Fell:
        if step.rung == "degraded" and step.model.engine == "extractive" and not request.passages:
            return _Fell(step.model.name, ItemError("upstream", f"the model {step.model.name!r} has nothing to quote"))
        try:
            if not self.breakers.guards(step.model):
                return await _called(step, request, await begin(step, request))
            permit = await self.breakers.ask(step.model)
            if isinstance(permit, Open):
                return _Fell(step.model.name, _away(step.model, permit), permit, called=False)
            return await self._guarded(step, request, begin, permit, is_last=is_last)
        except PassedOver as passed:
            return _Fell(step.model.name, passed.error, called=False)

    async def _guarded(
        self, step: Step, request: CompletionRequest, begin: Begin, permit: Permit, *, is_last: bool
    ) -> list[Completion] | _Fell:
        """A call whose outcome the breaker hears; what keeps it from being made says nothing of the model. One that is
        judged by its time is streamed, whoever listens."""
        told = Told("unknown")
        try:
            on_delta = await begin(step, request)
            judged = request.n == 1 and (permit.probe or not request.batch) and (on_delta is not None or not is_last)
            call = _Timed(step, on_delta, judged, give_up=judged and not is_last and not request.batch)
            result = await call.run(request)
            told = call.told(result)
        finally:
            opened = await self.breakers.tell(step.model, permit, told)
        return result if not isinstance(result, _Fell) else replaced(result, open=opened)


class _Timed:
    """A call with an eye on its first token, from when it begins."""

    def __init__(self, step: Step, on_delta: OnDelta | None, judged: bool, give_up: bool) -> None:
        self._step = step
        self._inner = on_delta
        self._judged = judged
        self._limit_s = step.model.breaker.slow_s
        self._give_up = give_up  # where there is no first token after `slow_s`
        self._first_s: float | None = None
        self._began = time.monotonic()

    async def run(self, request: CompletionRequest) -> list[Completion] | _Fell:
        try:
            async with asyncio.timeout(None) as limit:

                def on_begin() -> None:
                    self._began = time.monotonic()
                    if self._give_up:
                        limit.reschedule(asyncio.get_running_loop().time() + self._limit_s)

                async def on_delta(text: str, tokens: int = 0, /) -> None:
                    if self._first_s is None:
                        self._first_s = time.monotonic() - self._began
                        limit.reschedule(None)
                    if self._inner is not None:
                        await self._inner(text, tokens)

                return await _called(self._step, request, on_delta if self._judged else self._inner, on_begin)
        except TimeoutError:
            self._first_s = time.monotonic() - self._began
            name = self._step.model.name
            return _Fell(name, Retryable(f"the model {name!r} said nothing within {self._limit_s:g} s"))

    def told(self, result: list[Completion] | _Fell) -> Told:
        late = self._judged and self._first_s is not None and self._first_s >= self._limit_s
        if not isinstance(result, _Fell):
            why = f"the model {self._step.model.name!r} took {self._first_s:.1f} s to begin" if late else ""
            return Told("slow" if late else "ok", self._judged, why)
        match result.error:
            case Retryable(after=after):
                return Told("slow" if late else "failed", self._judged, str(result), after)
            case Unusable():
                return Told("failed", self._judged, str(result))
            case _:
                return Told("ok", judged=False)  # it has answered; the fault is the item's


async def _called(
    step: Step, request: CompletionRequest, on_delta: OnDelta | None, on_begin: OnBegin = unheard
) -> list[Completion] | _Fell:
    """An error that another rung may do without is a fall; others are the item's own."""
    try:
        return await step.engine.complete(request, on_delta, on_begin)
    except Away as error:
        return _Fell(step.model.name, error, called=False)
    except Later:
        raise
    except Retryable as error:
        return _Fell(step.model.name, error)
    except ItemError as error:
        if step.rung == "primary" and error.code != "upstream":
            raise
        return _Fell(step.model.name, error)


def _wait_or_go_down(fell: _Fell, due: Due, last_try: bool) -> None:
    """Raises where the item should wait for the model that it asked for rather than hear another."""
    if isinstance(fell.error, ItemError):
        return
    left = due.left(fell.open.down_s if fell.open else 0.0)
    if left > 0 and isinstance(fell.error, Away):
        raise Later(str(fell.error), after=min(fell.error.after, left))
    if left > 0 and fell.open:
        raise Later(f"waits for the model {fell.model!r}: {fell.open.why}", after=min(fell.open.for_s, left))
    if left > 0 and not last_try:
        raise fell.error


def _away(model: Model, found: Open) -> Retryable:
    reason = f"the model {model.name!r} is left alone for {found.for_s:.0f} s more: {found.why}"
    return Retryable(reason, after=found.for_s)


def _nobody(fallen: Sequence[_Fell]) -> Retryable | ItemError:
    """The error of a ladder without a rung left. What comes back by itself is waited for, unless the model that was
    asked for has failed: a call is an attempt, and may have cost something."""
    reason = str(fallen[0])
    if len(fallen) > 1:
        reason = f"no model of {', '.join(fell.model for fell in fallen)} answers: {_reasons(fallen)}"
    again = [fell.error for fell in fallen if isinstance(fell.error, Retryable)]
    waits = [error.after for error in again if error.after is not None]
    if waits and not fallen[0].called and any(isinstance(error, Away) for error in again):
        return Later(reason, after=min(waits))
    if len(fallen) == 1:
        return fallen[0].error
    if again:
        return Retryable(reason, after=min(waits, default=None))
    return ItemError("upstream", reason)


def _signed(found: list[Completion], step: Step, fallen: Sequence[_Fell]) -> list[Completion]:
    """Completions say which rung they come from; the first one needs no word."""
    if step.rung == "primary":
        return found
    why = _reasons(fallen)
    signed = [replace(one, rung=step.rung, why=why) for one in found]
    if step.rung != "degraded":
        return signed
    return [replace(one, mode="degraded") if one.mode == "extractive" else one for one in signed]


def ladder(models: Sequence[Model], engines: Mapping[str, Engine], breakers: Breakers) -> Ladder:
    """The ladder of these models, the first is the one that was asked for."""
    steps = [Step(model, engines[model.name], _rung(place, model)) for place, model in enumerate(models)]
    return Ladder(steps, breakers)


def _rung(place: int, model: Model) -> Rung:
    if place == 0:
        return "primary"
    return "degraded" if model.degraded else "backup"


def _reasons(fallen: Sequence[_Fell]) -> str:
    return "; ".join(str(fell)[:_WHY] for fell in fallen)
