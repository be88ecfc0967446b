"""The class of an error decides what becomes of a message; `shared.worker` carries it out."""

from collections.abc import Sequence

from contracts.item import Failure, FailureCode, Item, Usage


class PenstockError(Exception):
    """Base of all errors that Penstock raises on purpose; its text is fit for users."""

    usage: Usage | None = None  # what a model has used all the same, where its engine knows


class Retryable(PenstockError):
    """It may go better next time: a timeout, 429, 5xx, a lost connection. The message comes back after a pause.

    `after` is how many seconds the other side asked us to wait, if it did. `settled` is what becomes of the items where
    the message may not come again: those that are done go on, the others have failed. Without it all of them fail.
    """

    def __init__(self, reason: str, *, after: float | None = None, settled: Sequence[Item] | None = None) -> None:
        super().__init__(reason)
        self.after = after
        self.settled = settled


class Later(Retryable):
    """Not now, and nobody's fault: what it needs is known to be away. It comes back after `after` seconds, and this
    does not count as an attempt, however often it happens; a deadline ends it."""

    def __init__(self, reason: str, *, after: float) -> None:
        super().__init__(reason, after=after)
        self.after: float = after


class QueueFull(Retryable):
    """The stream refuses new messages: too much is waiting already. Nothing was stored; try again after `after` s."""


class Poison(PenstockError):
    """It can never succeed: it cannot be decoded or breaks an invariant. The message goes to the dead letters."""


class Rejected(PenstockError):
    """A submission that names what is wrong with it: the whole job is refused with this text."""


class ItemError(PenstockError):
    """One item fails, the others of its shard go on."""

    def __init__(self, code: FailureCode, reason: str, *, after: float = 0.0) -> None:
        super().__init__(reason)
        self.code = code
        self.after = after  # seconds after which it is worth another try, where that is known

    def failure(self, service: str) -> Failure:
        return Failure(code=self.code, reason=str(self), service=service, retry_after_s=self.after)


class Unusable(ItemError):
    """The item fails, and so would every other: a key that is refused, a model that is not there, a used-up quota."""

    def __init__(self, reason: str) -> None:
        super().__init__("upstream", reason)
