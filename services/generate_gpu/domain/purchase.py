"""The calls for one item: each is booked as it comes, so that none is paid for twice."""

import asyncio
import logging
from dataclasses import dataclass, field

from jsonschema import Draft202012Validator
from msgspec.structs import replace

from contracts.item import Completion, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnDelta
from services.generate_gpu.domain.ladder import Due, Ladder, Step
from services.generate_gpu.domain.ledger import Entry, Ledger, Paid
from services.generate_gpu.domain.metered import Metered
from services.generate_gpu.domain.output import Data, Invalid, feedback, parsed
from services.generate_gpu.domain.permits import PermitOf, unlimited
from services.generate_gpu.domain.stream import TokenStream
from services.generate_gpu.domain.tools import checked_calls, spoken
from shared.errors import ItemError, Later, Retryable
from shared.models import Model

log = logging.getLogger("penstock.generate")


@dataclass
class Purchase:
    """Draws `n` completions that fit the schema, or fewer; some may have been paid for before.

    After an error `usage` still says what the calls have used.
    """

    ladder: Ladder
    due: Due
    ledger: Ledger
    entry: Entry
    paid: Paid
    tries: int
    stream: TokenStream | None = None
    permit: PermitOf = unlimited
    _booking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _failed: bool = False  # a call has, in this delivery

    @property
    def usage(self) -> Usage:
        return sum(self.used.values(), Usage())

    @property
    def used(self) -> dict[str, Usage]:
        """What the calls of each model have used, by its name and its price."""
        used = dict(self.paid.wasted)
        for completion in self._all():
            maker = self.ladder.maker(completion)
            used[maker.name] = used.get(maker.name, Usage()) + _priced(maker, completion.usage)
        return used

    async def completions(self, request: CompletionRequest, validator: Draft202012Validator | None) -> list[Completion]:
        """The completions, checked where there is a schema. Raises ItemError and Retryable as engines do, and
        ItemError `invalid_output` where nothing fits, after one repair.

        However many calls fail together, that is one failure: the item is given up when `tries` deliveries had one.
        """
        try:
            return await self._fitting(request, validator)
        except Later:
            raise
        except Retryable as error:
            if self._failed:
                await self._count(error)
            raise

    async def _fitting(self, request: CompletionRequest, validator: Draft202012Validator | None) -> list[Completion]:
        await self._draw(request)
        if validator is None and not request.tools:
            return self.paid.drawn
        checked = [await _checked(completion, validator, request) for completion in self.paid.drawn]
        good = [completion for completion in checked if isinstance(completion, Completion)]
        if good:
            return good
        wrong = next(result for result in checked if isinstance(result, Invalid))
        repaired = await _checked(await self._repaired(request, wrong), validator, request)
        if isinstance(repaired, Invalid):
            raise ItemError("invalid_output", f"the model's output does not fit the schema: {repaired}")
        return [repaired]

    async def _draw(self, request: CompletionRequest) -> None:
        """All samples that are missing. Where there are some, the item goes on without those that fail for good, or do
        so at the last try."""
        if len(self.paid.drawn) >= request.n:
            return await self._replay()
        try:
            await self._missing(request)
        except (ItemError, Retryable) as error:
            if not self.paid.drawn or self._comes_again(error):
                raise

    async def _missing(self, request: CompletionRequest) -> None:
        """Ask for all at once; an endpoint that gives one at a time is asked for the rest together."""
        await self._call(replace(request, n=request.n - len(self.paid.drawn)), self.paid.asked)
        place = self.paid.asked
        rest = range(request.n - len(self.paid.drawn))
        more = [self._call(replace(request, n=1), place + further) for further in rest]
        failed = [result for result in await asyncio.gather(*more, return_exceptions=True) if result is not None]
        if failed:
            raise min(failed, key=_rank)

    async def _call(self, request: CompletionRequest, place: int) -> None:
        """`place`: that of its first sample among all of the item's; each has the seed behind the one before it."""
        seed = None if request.seed is None else request.seed + place
        fresh = await self._ask(replace(request, seed=seed))
        asked = max(self.paid.asked, place + request.n)
        self.paid = replace(self.paid, drawn=[*self.paid.drawn, *fresh], asked=asked)
        await self._book()

    def _comes_again(self, error: ItemError | Retryable) -> bool:
        """Waiting is no try, nor is a call that was not made."""
        if isinstance(error, ItemError):
            return False
        return isinstance(error, Later) or not self._failed or not self._last_try

    async def _repaired(self, request: CompletionRequest, wrong: Invalid) -> Completion:
        if self.paid.repair is None:
            first = self.paid.drawn[0]
            of_a_call = bool(first.tool_calls) or request.forces_call
            messages = feedback(request.messages, spoken(first), wrong, of_a_call=of_a_call)
            fresh = await self._ask(replace(request, messages=messages, n=1))
            self.paid = replace(self.paid, repair=fresh[0])
            await self._book()
        assert self.paid.repair is not None, "it has just been set"
        return self.paid.repair

    async def _ask(self, request: CompletionRequest) -> list[Completion]:
        called, wasted = False, self.paid.wasted

        async def begin(step: Step, request: CompletionRequest) -> OnDelta | None:
            nonlocal called
            await self.permit(step.model, step.rung)(request)
            if self.stream is not None:
                await self.stream.begin()
            called = True
            return self.stream.send if self.stream is not None else None

        try:
            found = await self.ladder.through(self._metered).complete(request, begin, self.due, self._last_try)
        except (ItemError, Retryable, asyncio.CancelledError) as error:
            self._failed |= called and isinstance(error, Retryable)
            if self.paid.wasted is not wasted:
                await self._book()
            raise
        return self._timed(found)

    async def _count(self, error: Retryable) -> None:
        """One failure more. Raises ItemError where it is the last."""
        self.paid = replace(self.paid, failures=self.paid.failures + 1)
        await self._book()
        if self.paid.failures >= self.tries:
            raise ItemError("upstream", f"given up after {self.paid.failures} attempts: {error}") from None

    @property
    def _last_try(self) -> bool:
        return self.paid.failures + 1 >= self.tries

    def _metered(self, step: Step) -> Metered:
        def lose(usage: Usage) -> None:
            wasted, name = self.paid.wasted, step.model.name
            cost = wasted.get(name, Usage()) + _priced(step.model, usage)
            self.paid = replace(self.paid, wasted={**wasted, name: cost})

        return Metered(step.engine, lose, step.model)

    def _timed(self, found: list[Completion]) -> list[Completion]:
        """When the first piece came, where only the stream knows."""
        if self.stream is None or not self.stream.first_at or found[0].timing.first_at:
            return found
        timing = replace(found[0].timing, first_at=self.stream.first_at)
        return [replace(found[0], timing=timing), *found[1:]]

    async def _book(self) -> None:
        """One writing at a time, so that the last one has everything. What cannot be booked is used all the same."""
        async with self._booking:
            try:
                await self.ledger.write(self.entry, self.paid)
            except Retryable as error:
                log.warning("item %d of %s is not booked: %s", self.entry.n, self.entry.task, error)

    async def _replay(self) -> None:
        """What was paid for before is streamed in one piece."""
        if self.stream is not None:
            await self.stream.begin()
            await self.stream.send((self.paid.repair or self.paid.drawn[0]).text)

    def _all(self) -> list[Completion]:
        return [*self.paid.drawn, *([self.paid.repair] if self.paid.repair is not None else [])]


def _rank(failed: BaseException) -> int:
    """The least counts: a fault of ours; where one can only wait, all do; then what may go better next time."""
    kinds = (Later, Retryable, ItemError)
    return next((rank for rank, kind in enumerate(kinds) if isinstance(failed, kind)), -1)


def _priced(model: Model, usage: Usage) -> Usage:
    return replace(usage, cost_usd=model.cost(usage))


async def _checked(
    completion: Completion, validator: Draft202012Validator | None, request: CompletionRequest
) -> Completion | Invalid:
    """A model that asks for a call does not answer yet, so there is nothing to hold against the answer's schema."""
    await asyncio.sleep(0)  # a check may take a second: others have their turn between two of them
    if completion.tool_calls or request.forces_call:
        return checked_calls(completion, request.tools, request.tool_choice)
    if validator is None:
        return completion
    data: Data | Invalid = parsed(completion.text, validator)
    return data if isinstance(data, Invalid) else replace(completion, data=data)
