"""Who of a shard may call the model now, and who has to wait."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from contracts.item import Rung, Usage
from contracts.task import Task
from services.generate_gpu.domain.completion import Away, CompletionRequest
from services.generate_gpu.domain.limits import (
    LONGEST_S,
    Ask,
    Limiter,
    LimitName,
    Shard,
    Taken,
    limit_text,
    most,
    over,
    spent,
    too_late,
)
from shared.errors import ItemError, Later, PenstockError, Retryable
from shared.limits import Kind, Limits, Scope
from shared.models import Model

log = logging.getLogger("penstock.generate.limits")

_TOGETHER_S = 5.0  # items of a shard that get their room so shortly after each other come back together

Permit = Callable[[CompletionRequest], Awaitable[None]]
"""Called before each call of an item's. Raises Later where it has to wait for its turn, ItemError where there is no use
in that, Retryable where nobody knows, PassedOver where only this model has no room."""


class PassedOver(PenstockError):
    """A backup is not called, as it has no room in our own limits. That says nothing about the model: no breaker hears
    of it. The next rung answers."""

    def __init__(self, error: Away | ItemError) -> None:
        super().__init__(str(error))
        self.error = error


PermitOf = Callable[[Model, Rung], Permit]
"""The permit of an item's calls of a model, on this rung of its ladder."""


async def free(_: CompletionRequest) -> None:
    """Nothing is limited."""


def unlimited(model: Model, rung: Rung, /) -> Permit:
    """Every call is free."""
    return free


class Met(Protocol):
    """Hears of items that met a limit."""

    def __call__(self, tenant: str, kind: Kind, limit: LimitName, outcome: str, items: int, /) -> None: ...


def unseen(tenant: str, kind: Kind, limit: LimitName, outcome: str, items: int, /) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Unlimited:
    """No limits: nothing is asked, nothing is told."""

    def of(self, task: Task, models: Sequence[Model]) -> "Permits | None":
        return None


@dataclass(frozen=True)
class Limited:
    """The limits of limits.yaml, and who counts for them."""

    limits: Limits
    limiter: Limiter
    met: Met = unseen
    clock: Callable[[], float] = time.time

    def of(self, task: Task, models: Sequence[Model]) -> "Permits | None":
        """The permits of a shard that asked for the first of these models and may be passed down to the others; None
        where nothing limits it."""
        called = [*models[:1], *(model for model in models[1:] if not model.degraded)]
        rooms = {model.name: Room(list(self.limits.of_model(model.name)), model.name) for model in called}
        payers = Room(self.limits.scopes(task.tenant, task.user))
        if not any(room.scopes for room in (payers, *rooms.values())):
            return None
        return Permits(self, task, models[0], payers, rooms)


@dataclass(eq=False)
class Room:
    """Calls in some scopes that were granted and are not made yet. Where there is no scope there is always room."""

    scopes: Sequence[Scope]
    account: str = ""  # see `Shard`
    asked: bool = False
    _granted: dict[int, list[float]] = field(default_factory=dict)  # when, by the items' numbers

    def give(self, n: int, at: float) -> None:
        if self.scopes:
            self._granted.setdefault(n, []).append(at)

    def spend(self, n: int) -> float | None:
        """When the call was granted that is made now; None: it has to be asked for."""
        if not self.scopes:
            return 0.0
        granted = self._granted.get(n)
        return granted.pop() if granted else None

    def rest(self) -> list[float]:
        """What was granted and will not be used: a model was not called after all, as its breaker is open."""
        rest = [at for granted in self._granted.values() for at in granted]
        self._granted.clear()
        return rest


@dataclass
class Permits:
    """The permits of one shard: asked for all items at once, used call by call.

    Every call needs room in the limits of who pays for it, and in those of the model that is called. The two are kept
    apart, as it is known late which model that is.
    """

    rules: Limited
    task: Task
    model: Model  # that was asked for
    payers: Room  # tenant and user
    rooms: Mapping[str, Room]  # of each model that may be called, by its name
    _alone: bool = False  # the model, when the shard asked
    _refused: dict[int, PenstockError] = field(default_factory=dict)
    _deadlines: dict[int, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deadlines = {item.n: item.deadline for item in self.task.items}

    async def ask(self, requests: Mapping[int, CompletionRequest], left_alone: Callable[[], Awaitable[bool]]) -> None:
        """One round trip for calls of these items, by their numbers. Where the model is left alone nobody waits for its
        limits: whoever calls it after all asks then. Raises Retryable."""
        if not requests:
            return
        own = self.rooms[self.model.name]
        self._alone = bool(own.scopes) and await left_alone()
        rooms = [self.payers] if self._alone else [self.payers, own]
        shard = self._shard(*rooms)
        if not shard.scopes:
            return
        asks, taken = await self._take(rooms, requests, self.model)
        for n in taken.granted:
            for room in rooms:
                room.give(n, taken.now)
        self._refused.update(self._refusals(shard, asks, taken))

    def of(self, n: int) -> PermitOf:
        """The permits of one item's calls. What steps in when no model answers needs none."""

        def permit(model: Model, rung: Rung) -> Permit:
            match rung:
                case "primary":
                    return partial(self._use, n)
                case "backup":
                    return partial(self._use_backup, n, model)
                case "degraded":
                    return free

        return permit

    def check(self, n: int) -> None:
        """Raises what a call of the item would, as far as that is known by now."""
        if n in self._refused:
            raise self._refused[n]

    async def _use(self, n: int, request: CompletionRequest) -> None:
        """Uses what the shard was granted, and asks for what is missing: all of it for a further call such as a repair,
        the model's own where that was left alone when the shard asked; the shard stands in its line once it is back."""
        spent = [(room, room.spend(n)) for room in (self.payers, self.rooms[self.model.name])]
        missing = [room for room, at in spent if at is None]
        if not missing:
            return
        try:
            await self._further(missing, n, request, self.model, in_line=not self._alone)
        except PenstockError:
            for room, at in spent:
                if at is not None:
                    room.give(n, at)
            raise

    async def _use_backup(self, n: int, model: Model, request: CompletionRequest) -> None:
        """Room for tenant and user as ever, then for the other model."""
        at = self.payers.spend(n)
        try:
            if at is None:
                at = await self._further([self.payers], n, request, model)
            await self._room_of(n, model, request, at)
        except ItemError as error:
            raise PassedOver(error) from None

    async def _room_of(self, n: int, model: Model, request: CompletionRequest, at: float) -> None:
        """Where a backup has no room the item goes on at once and does not come back, so it must not stand in line.
        What tenant and user granted at `at` is the next rung's."""
        try:
            await self._further([self.rooms[model.name]], n, request, model, in_line=False)
        except (Later, ItemError) as error:
            self.payers.give(n, at)
            if isinstance(error, Later):
                raise PassedOver(Away(str(error), after=error.after)) from None
            raise

    async def settle(self, used: Mapping[int, Mapping[str, Usage]]) -> None:
        """What the items' calls have used, by model, those of earlier deliveries included. What cannot be said now is
        said at a redelivery; until then it is held."""
        called = {name for models in used.values() for name in models}
        sums = {n: sum(models.values(), Usage()) for n, models in used.items()}
        own = [
            self._settle(room, {n: models.get(name, Usage()) for n, models in used.items()})
            for name, room in self.rooms.items()
            if room.asked or name in called
        ]
        await asyncio.gather(self._settle(self.payers, sums), *own)

    async def _settle(self, room: Room, used: Mapping[int, Usage]) -> None:
        shard, unused = self._shard(room), room.rest()
        sums = [spent(n, usage) for n, usage in used.items()] if shard.counts_tokens else []
        if not sums and not unused:
            return
        try:
            await self.rules.limiter.settle(shard, sums, unused)
        except Retryable as error:
            log.warning("what %s has used is not counted: %s", shard.id, error)

    async def _further(
        self, rooms: Sequence[Room], n: int, request: CompletionRequest, model: Model, *, in_line: bool = True
    ) -> float:
        """Room for one more call, in a line of its own where it is to wait; when it was granted. Raises as permits."""
        shard = self._shard(*rooms)
        if not shard.scopes:
            return 0.0
        asks, taken = await self._take(rooms, {n: request}, model, line=f"{shard.id}/{n}", in_line=in_line)
        if n not in taken.granted:
            raise self._refusals(shard, asks, taken)[n]
        return taken.now

    async def _take(
        self,
        rooms: Sequence[Room],
        requests: Mapping[int, CompletionRequest],
        model: Model,
        line: str = "",
        *,
        in_line: bool = True,
    ) -> tuple[list[Ask], Taken]:
        shard = self._shard(*rooms)
        counts = shard.counts_tokens
        sizes = await asyncio.to_thread(_sizes, requests, model) if counts else dict.fromkeys(requests, (0, 0))
        asks = [Ask(n, *size, self._patience(n) if in_line else 0.0) for n, size in sizes.items()]
        taken = await self.rules.limiter.take(shard, asks, line)
        for room in rooms:
            room.asked = True
        return asks, taken

    def _shard(self, *rooms: Room) -> Shard:
        scopes = [scope for room in rooms for scope in room.scopes]
        account = rooms[0].account if len(rooms) == 1 else ""
        return Shard(f"{self.task.id}:{self.task.hop}", scopes, self.task.lane == "batch", account)

    def _refusals(self, shard: Shard, asks: Sequence[Ask], taken: Taken) -> dict[int, PenstockError]:
        by_number = {ask.n: ask for ask in asks}
        found: dict[int, PenstockError] = {}
        for each in taken.over:
            found[each.n] = over(shard, by_number[each.n], each, taken.now)
            self._count(shard.scopes[each.scope], each.limit, "refused", 1)
        left = [ask.n for ask in asks if ask.n not in found and ask.n not in taken.granted]
        if left:
            waiting = self._waiting(shard, left, taken)
            refused = sum(isinstance(error, ItemError) for error in waiting.values())
            self._count(shard.scopes[taken.scope], taken.limit, "refused", refused)
            self._count(shard.scopes[taken.scope], taken.limit, "waits", len(left) - refused)
            found |= waiting
        return found

    def _waiting(self, shard: Shard, left: Sequence[int], taken: Taken) -> dict[int, PenstockError]:
        """Those that have time come back; the others hear at once that there is no use in waiting."""
        waits = _spread(taken, len(left))
        later = Later(f"waits for {limit_text(shard, taken)}", after=min(_together(waits), LONGEST_S))
        return {
            n: too_late(shard, taken, wait_s) if 0 <= self._patience(n) < wait_s else later
            for n, wait_s in zip(left, waits, strict=True)
        }

    def _patience(self, n: int) -> float:
        """Seconds that an item may wait; less than 0: however long it takes."""
        batch_wait_s = self.rules.limits.batch.wait_s
        deadlines = [self._deadlines.get(n), self.task.deadline]
        left = [deadline - self.rules.clock() for deadline in deadlines if deadline is not None]
        if self.task.lane == "batch" and batch_wait_s is not None:
            left.append(batch_wait_s)
        return max(0.0, min(left)) if left else -1.0

    def _count(self, scope: Scope, limit: LimitName, outcome: str, items: int) -> None:
        if items:
            self.rules.met(self.task.tenant, scope.kind, limit, outcome, items)


def _sizes(requests: Mapping[int, CompletionRequest], model: Model) -> dict[int, tuple[int, int]]:
    """The most that each call may use, in tokens and nano dollars."""
    return {n: most(request, model) for n, request in requests.items()}


def _spread(taken: Taken, items: int) -> list[float]:
    """When each of those that wait has room: between the first and the last as if calls were equally large."""
    if items < 2:
        return [taken.wait_s] * items
    step = (taken.last_s - taken.wait_s) / (items - 1)
    return [taken.wait_s + step * place for place in range(items)]


def _together(waits: Sequence[float]) -> float:
    """When a shard comes back: with its first item, and those that follow shortly after it."""
    return max(wait for wait in waits if wait <= waits[0] + _TOGETHER_S)
