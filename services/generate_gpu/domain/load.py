"""What a replica says about itself: how much it has to do, and which prefixes it has computed last."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.events import shown

_KEPT = 1024


class Load:
    """Counts calls while they run; remembers the keys of prefixes, newest first."""

    def __init__(self) -> None:
        self.running = 0
        self._prefixes: OrderedDict[str, None] = OrderedDict()

    @property
    def prefixes(self) -> list[str]:
        """As the register shows them."""
        return [shown(prefix) for prefix in reversed(self._prefixes)]

    def known(self, prefix: str) -> bool:
        """Whether the prefix of this key has been computed, and nothing newer has pushed it out."""
        return prefix in self._prefixes

    def holds(self, prefix: str) -> None:
        """The prefix of this key has been computed."""
        self._prefixes[prefix] = None
        self._prefixes.move_to_end(prefix)
        if len(self._prefixes) > _KEPT:
            self._prefixes.popitem(last=False)

    def forget(self) -> None:
        """An engine has died, and all that it kept is gone with it."""
        self._prefixes.clear()

    @contextmanager
    def of(self, calls: int) -> Iterator[None]:
        """Around so many calls."""
        self.running += calls
        try:
            yield
        finally:
            self.running -= calls
