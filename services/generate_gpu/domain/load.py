"""What a replica says about itself: how much it has to do, and which prefixes it has seen last."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

_SHOWN = 64
_KEPT = 1024


class Load:
    """Counts calls while they run; remembers the keys of prefixes, newest first."""

    def __init__(self) -> None:
        self.running = 0
        self._prefixes: OrderedDict[str, None] = OrderedDict()

    @property
    def prefixes(self) -> list[str]:
        return list(reversed(self._prefixes))[:_SHOWN]

    def known(self, prefix: str) -> bool:
        """Whether the prefix of this key has been seen, and nothing newer has pushed it out."""
        return prefix in self._prefixes

    def holds(self, prefix: str) -> None:
        """The prefix of this key has been computed, or is about to be."""
        self._prefixes[prefix] = None
        self._prefixes.move_to_end(prefix)
        if len(self._prefixes) > _KEPT:
            self._prefixes.popitem(last=False)

    def forget(self) -> None:
        """An engine has died, and all that it kept is gone with it."""
        self._prefixes.clear()

    @contextmanager
    def of(self, calls: int, prefix: str) -> Iterator[None]:
        """Around so many calls with the prefix of this key; an empty one is not remembered."""
        if prefix:
            self.holds(prefix)
        self.running += calls
        try:
            yield
        finally:
            self.running -= calls
