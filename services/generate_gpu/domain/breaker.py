"""When a model is left alone: what a breaker is asked and told."""

from dataclasses import dataclass
from typing import Literal, Protocol

from shared.models import Model

Outcome = Literal[
    "ok",
    "slow",  # it answered, or was given up, later than `slow_s`
    "failed",
    "unknown",  # the call ended for a reason of our own
]


@dataclass(frozen=True)
class Permit:
    """A call may be made. `epoch` says between which two changes of the breaker; a probe decides whether it closes."""

    epoch: int
    probe: bool = False


@dataclass(frozen=True)
class Open:
    """The model is left alone, as it fails or has asked for it: for `for_s` seconds more, since `down_s`, and why."""

    for_s: float
    down_s: float
    why: str


@dataclass(frozen=True)
class Told:
    """How a call went. `judged`: somebody saw when its first token came; `after` is what Retry-After said."""

    outcome: Outcome
    judged: bool = False
    why: str = ""
    after: float | None = None


class Breakers(Protocol):
    """The breakers of all models, shared by all replicas."""

    def guards(self, model: Model) -> bool:
        """Whether this model has one."""

    async def ask(self, model: Model) -> Permit | Open:
        """Before every call. Of many who ask while it is half open, one gets the permit for the probe.

        Raises Retryable where the store does not answer.
        """

    async def away(self, model: Model) -> bool:
        """Whether it is left alone now, or by all but a probe; for whoever does not call yet. Raises Retryable."""

    async def tell(self, model: Model, permit: Permit, told: Told) -> Open | None:
        """After every call, however it went; how the breaker stands now. Never raises: an answer must not be lost."""


class Unguarded:
    """No model has a breaker."""

    def guards(self, model: Model) -> bool:
        return False

    async def ask(self, model: Model) -> Permit | Open:
        return Permit(0)

    async def away(self, model: Model) -> bool:
        return False

    async def tell(self, model: Model, permit: Permit, told: Told) -> Open | None:
        return None
