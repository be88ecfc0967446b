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
from services.generate_gpu.domain.completion import CompletionRequest
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
from shared.limits import Kind, Limits
from shared.models import Model

log = logging.getLogger("penstock.generate.limits")

_TOGETHER_S = 5.0  # items of a shard that get their room so shortly after each other come back together

Permit = Callable[[CompletionRequest], Awaitable[None]]
"""Called before each call of an item's. Raises Later where it has to wait for its turn, ItemError where there is no use
in that, Retryable where nobody knows."""


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

    def of(self, task: Task, model: Model) -> "Permits | None":
        return None


@dataclass(frozen=True)
class Limited:
    """The limits of limits.yaml, and who counts for them."""

    limits: Limits
    limiter: Limiter
    met: Met = unseen
    clock: Callable[[], float] = time.time

    def of(self, task: Task, model: Model) -> "Permits | None":
        """The permits of a shard; None where nothing limits it."""
        scopes = self.limits.scopes(task.tenant, task.user, model.name)
        if not scopes:
            return None
        shard = Shard(f"{task.id}:{task.hop}", scopes, task.lane == "batch")
        return Permits(self, shard, task, model)


@dataclass
class Permits:
    """The permits of one shard: asked for all items at once, used call by call."""

    rules: Limited
    shard: Shard
    task: Task
    model: Model
    _granted: set[int] = field(default_factory=set)
    _refused: dict[int, PenstockError] = field(default_factory=dict)
    _taken_at: float = 0.0
    _backups: "dict[str, Permits | None]" = field(default_factory=dict)
    _deadlines: dict[int, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deadlines = {item.n: item.deadline for item in self.task.items}

    async def ask(self, requests: Mapping[int, CompletionRequest], line: str = "") -> None:
        """One round trip for calls of these items, by their numbers. Raises Retryable."""
        if not requests:
            return
        counts = self.shard.counts_tokens
        asks = await asyncio.to_thread(self._asks, requests) if counts else self._asks(requests)
        taken = await self.rules.limiter.take(self.shard, asks, line)
        self._taken_at = taken.now
        self._granted.update(taken.granted)
        self._refused.update(self._refusals(asks, taken))

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
        if n not in self._granted and n not in self._refused:  # a further call, such as a repair
            await self.ask({n: request}, line=f"{self.shard.id}/{n}")
        self._granted.discard(n)
        if n in self._refused:
            raise self._refused.pop(n)

    async def _use_backup(self, n: int, model: Model, request: CompletionRequest) -> None:
        """Room for tenant and user as ever, and for the other model too. Where that has none, the next rung answers."""
        await self._use(n, request)
        other = self._backups.setdefault(model.name, self._backup(model))
        try:
            if other is not None:
                await other._use(n, request)
        except Later as error:
            raise Retryable(str(error), after=error.after) from None

    def _backup(self, model: Model) -> "Permits | None":
        scopes = list(self.rules.limits.of_model(model.name))
        shard = Shard(f"{self.shard.id}:{model.name}", scopes, self.shard.batch)
        return Permits(self.rules, shard, self.task, model) if scopes else None

    async def settle(self, used: Mapping[int, Usage]) -> None:
        """What the items' calls have used, those of earlier deliveries included. What cannot be said now is said at a
        redelivery; until then it is held."""
        await asyncio.gather(*(backup.settle(used) for backup in self._backups.values() if backup is not None))
        unused = len(self._granted)  # a model that was not called after all, as its breaker is open
        self._granted.clear()
        sums = [spent(n, usage) for n, usage in used.items()] if self.shard.counts_tokens else []
        if not sums and not unused:
            return
        try:
            await self.rules.limiter.settle(self.shard, sums, unused, self._taken_at)
        except Retryable as error:
            log.warning("what %s has used is not counted: %s", self.shard.id, error)

    def _asks(self, requests: Mapping[int, CompletionRequest]) -> list[Ask]:
        counts = self.shard.counts_tokens
        return [
            Ask(n, *(most(request, self.model) if counts else (0, 0)), self._patience(n))
            for n, request in requests.items()
        ]

    def _refusals(self, asks: Sequence[Ask], taken: Taken) -> dict[int, PenstockError]:
        by_number = {ask.n: ask for ask in asks}
        found: dict[int, PenstockError] = {}
        for each in taken.over:
            found[each.n] = over(self.shard, by_number[each.n], each, taken.now)
            self._count(each.scope, each.limit, "refused", 1)
        left = [ask.n for ask in asks if ask.n not in found and ask.n not in taken.granted]
        if left:
            waiting = self._waiting(left, taken)
            refused = sum(isinstance(error, ItemError) for error in waiting.values())
            self._count(taken.scope, taken.limit, "refused", refused)
            self._count(taken.scope, taken.limit, "waits", len(left) - refused)
            found |= waiting
        return found

    def _waiting(self, left: Sequence[int], taken: Taken) -> dict[int, PenstockError]:
        """Those that have time come back; the others hear at once that there is no use in waiting."""
        waits = _spread(taken, len(left))
        later = Later(f"waits for {limit_text(self.shard, taken)}", after=min(_together(waits), LONGEST_S))
        return {
            n: too_late(self.shard, taken, wait_s) if 0 <= self._patience(n) < wait_s else later
            for n, wait_s in zip(left, waits, strict=True)
        }

    def _patience(self, n: int) -> float:
        """Seconds that an item may wait; less than 0: however long it takes."""
        batch_wait_s = self.rules.limits.batch.wait_s
        deadlines = [self._deadlines.get(n), self.task.deadline]
        left = [deadline - self.rules.clock() for deadline in deadlines if deadline is not None]
        if self.shard.batch and batch_wait_s is not None:
            left.append(batch_wait_s)
        return max(0.0, min(left)) if left else -1.0

    def _count(self, scope: int, limit: LimitName, outcome: str, items: int) -> None:
        if items:
            self.rules.met(self.task.tenant, self.shard.scopes[scope].kind, limit, outcome, items)


def _spread(taken: Taken, items: int) -> list[float]:
    """When each of those that wait has room: between the first and the last as if calls were equally large."""
    if items < 2:
        return [taken.wait_s] * items
    step = (taken.last_s - taken.wait_s) / (items - 1)
    return [taken.wait_s + step * place for place in range(items)]


def _together(waits: Sequence[float]) -> float:
    """When a shard comes back: with its first item, and those that follow shortly after it."""
    return max(wait for wait in waits if wait <= waits[0] + _TOGETHER_S)
