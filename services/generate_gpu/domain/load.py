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

    @contextmanager
    def of(self, calls: int, prefix: str) -> Iterator[None]:
        """Around so many calls with the prefix of this key; an empty one is not remembered."""
        if prefix:
            self._prefixes[prefix] = None
            self._prefixes.move_to_end(prefix)
            if len(self._prefixes) > _KEPT:
                self._prefixes.popitem(last=False)
        self.running += calls
        try:
            yield
        finally:
            self.running -= calls
