"""What a tenant and its users have used of their limits. JSON."""

from typing import Literal

from msgspec import Struct, field


class LimitsQuery(Struct, frozen=True, omit_defaults=True):
    """`limits.<tenant>`: a request; an empty object will do."""

    user: str = ""  # only this user, beside the tenant itself; empty: all that have used something
    v: int = 1


class LimitUse(Struct, frozen=True, omit_defaults=True):
    """One limit and what is used of it. Calls, tokens, or US dollars."""

    name: Literal["rpm", "tpm", "rpd", "usd_day", "usd_month"]
    limit: float
    used: float = 0.0
    reserved: float = 0.0  # of a budget, by calls that are under way
    resets_at: float = 0.0  # unix seconds; 0: it slides


class ScopeUse(Struct, frozen=True, omit_defaults=True):
    """The limits of a tenant, or of one of its users."""

    kind: Literal["tenant", "user"]
    name: str  # empty: the jobs that name no user
    limits: list[LimitUse] = field(default_factory=list)
    waiting: int = 0  # calls of the lane interactive that wait for room
    waiting_batch: int = 0


class LimitsUse(Struct, frozen=True, omit_defaults=True):
    """The reply: nothing in `scopes` where nothing is limited."""

    tenant: str
    at: float  # unix seconds
    scopes: list[ScopeUse] = field(default_factory=list)
    error: str = ""  # why it cannot be said now
    v: int = 1
