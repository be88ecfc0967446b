"""Limits and budgets around the calls of a shard: what is asked for, what is granted, and how a refusal reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from contracts.item import Usage
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.tools import as_openai
from shared.errors import ItemError
from shared.limits import Scope
from shared.models import Model
from shared.text import count_tokens

NANO = 1_000_000_000
LONGEST_S = 30.0
"""Who waits comes back at least so often: a cancelled job, or one whose deadline has passed, ends then."""

_PER_MESSAGE = 6  # tokens that chat templates put around a message
_MARGIN = 1.1  # other models' tokenizers count differently

LimitName = Literal["rpm", "tpm", "rpd", "usd_day", "usd_month", ""]


class Ask(Struct, frozen=True):
    """One call that an item needs, and the most that it may use."""

    n: int  # the item's number
    tokens: int
    nano: int  # dollars
    patience_s: float = -1.0  # how long it may wait; less than 0: however long it takes


class Spent(Struct, frozen=True):
    """What all calls of an item at this hop have used so far."""

    n: int
    tokens: int
    nano: int


class Over(Struct, frozen=True):
    """An ask that no waiting helps, or only the next day: which scope's limit, and what is used or spent of it."""

    n: int
    scope: int
    limit: LimitName
    used: int
    held: int  # reserved by calls that are under way


class Taken(Struct, frozen=True):
    """What became of a shard's asks. Those that are neither granted nor over wait in line."""

    now: float  # unix seconds, Redis's
    granted: list[int]
    over: list[Over]
    wait_s: float = 0.0  # until there is room for the first of those that wait …
    last_s: float = 0.0  # … and for the last one
    scope: int = 0  # whose limit they wait for
    limit: LimitName = ""


@dataclass(frozen=True)
class Shard:
    """Whose calls they are."""

    id: str  # of the task at its hop
    scopes: Sequence[Scope]
    batch: bool
    account: str = ""  # where the scopes are a model's, its name: what calls of others used is not its

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how large the calls are."""
        allowances = [scope.allowance for scope in self.scopes]
        return any(each.tpm or each.usd_day is not None or each.usd_month is not None for each in allowances)


class Limiter(Protocol):
    """Counts for all replicas together. Raises Retryable where the store does not answer."""

    async def take(self, shard: Shard, asks: Sequence[Ask], line: str = "") -> Taken:
        """Room for as many of the asks as fit, the first ones first. The others wait in line, where that takes no
        longer than they have patience: in the shard's place, or in one of their own, by the name of `line`."""

    async def settle(self, shard: Shard, spent: Sequence[Spent], unused: Sequence[float] = ()) -> None:
        """Let what was really used take the place of what was reserved; a second time changes nothing. Gives back the
        calls that were granted at these times (unix seconds, Redis's) and not made."""


def most(request: CompletionRequest, model: Model) -> tuple[int, int]:
    """The most that a call may use, in tokens and nano dollars: its prompt by our own tokenizer with a margin, and all
    tokens that it may write."""
    prompt = ceil(prompt_tokens(request, model) * _MARGIN)
    usage = Usage(prompt_tokens=prompt, completion_tokens=request.n * request.max_tokens)
    return usage.prompt_tokens + usage.completion_tokens, nano_dollars(model.cost(usage))


def prompt_tokens(request: CompletionRequest, model: Model) -> int:
    """A prompt's tokens as our own tokenizer counts them, with the tools and the schema that go with it."""
    counts = count_tokens([message.said for message in request.messages])
    return sum(counts) + _PER_MESSAGE * len(request.messages) + sum(map(_counted, _beside(request, model)))


def _beside(request: CompletionRequest, model: Model) -> Iterator[bytes]:
    if request.tools:
        yield msgspec.json.encode(as_openai(request.tools))
    if request.schema is not None and model.engine == "openai" and model.structured == "json_schema":
        yield msgspec.json.encode(request.schema)


@lru_cache(32)
def _counted(given: bytes) -> int:
    """All items of a job have the same."""
    return count_tokens([given.decode()])[0]


def spent(n: int, usage: Usage) -> Spent:
    return Spent(n, usage.prompt_tokens + usage.completion_tokens, nano_dollars(usage.cost_usd))


def nano_dollars(dollars: float) -> int:
    return round(dollars * NANO)


def over(shard: Shard, ask: Ask, found: Over, now: float) -> ItemError:
    """Why no waiting helps: the budget, what is spent, what the call could cost, and when the budget resets."""
    scope = shard.scopes[found.scope]
    if found.limit == "tpm":
        reason = f"the call may use {ask.tokens:,} tokens, {scope} has {scope.allowance.tpm:,} a minute"
        return ItemError("over_limit", reason)
    limit, period, resets = _budget(scope, found.limit, now)
    reason = (
        f"the budget of {scope}, {_dollars(limit)} a {period}, does not bear the call: {_dollars(found.used / NANO)} "
        f"spent, the call may cost {_dollars(ask.nano / NANO)}; it resets at {resets:%Y-%m-%d %H:%M} UTC"
    )
    return ItemError("over_budget", reason, after=round(resets.timestamp() - now, 1))


def too_late(shard: Shard, taken: Taken, wait_s: float) -> ItemError:
    """Why there is no use in waiting, and when there is room."""
    what = limit_text(shard, taken)
    asked = "batch work may wait" if shard.batch else "the deadline"
    return ItemError(
        "over_limit", f"{what} is used up for longer than {asked}: try again in {ceil(wait_s)} s", after=ceil(wait_s)
    )


def limit_text(shard: Shard, taken: Taken) -> str:
    """The limit that is used up, in words."""
    scope = shard.scopes[taken.scope]
    allowance = scope.allowance
    match taken.limit:
        case "rpm":
            limit = f"{allowance.rpm:,} calls a minute"
        case "tpm":
            limit = f"{allowance.tpm:,} tokens a minute"
        case "rpd":
            limit = f"{allowance.rpd:,} calls a day"
        case _:
            limit = "the budget that calls under way have reserved"
    return f"the limit of {scope}, {limit}," if taken.limit in ("rpm", "tpm", "rpd") else f"{limit} of {scope}"


def resets_at(name: LimitName, now: datetime) -> datetime:
    """The first moment of the next day, for `usd_month` of the next month."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "usd_month":
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return midnight + timedelta(days=1)


def _budget(scope: Scope, name: LimitName, now: float) -> tuple[float, str, datetime]:
    resets = resets_at(name, datetime.fromtimestamp(now, UTC))
    if name == "usd_day":
        return scope.allowance.usd_day or 0.0, "day", resets
    return scope.allowance.usd_month or 0.0, "month", resets


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.6f}".rstrip("0")
