"""Moves traffic to a new version of a prompt once the replicas that will serve it have computed how it begins."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.route.adapters.replicas import Replicas
from services.route.domain.rollout import Change, cold

log = logging.getLogger("penstock.route.rollout")

LONGEST_S = 60.0
"""Traffic moves at last, warm or not: a replica that cannot compute it will not keep a version from going live."""
_AGAIN_S = 5.0  # core NATS may lose a word
_KEPT = 10_000


@dataclass
class _Waiting:
    """A version that is being warmed."""

    since: float
    asked: dict[str, float] = field(default_factory=dict)  # replica → when


@dataclass
class Rollout:
    """Remembers which beginnings have gone live. `clock`: seconds, monotonic."""

    replicas: Replicas
    clock: Callable[[], float] = time.monotonic
    _live: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)

    async def ready(self, change: Change) -> bool:
        """Whether questions go out with the new version; if not, replicas are told to compute its beginning."""
        key = change.to.key
        if key in self._live:
            return True
        if not self.replicas.heard_all:
            return False
        missing = cold(change, self.replicas.held(change.to.model))
        now = self.clock()
        waiting = self._waiting.setdefault(key, _Waiting(now))
        if missing and now - waiting.since < LONGEST_S and await self._warm(change, missing, waiting, now):
            return False
        if missing:
            to = change.to
            log.warning("%s goes live for %s, although %s have not computed it", to.prompt, to.tenant, missing)
        self._go_live(key)
        return True

    async def _warm(self, change: Change, replicas: list[str], waiting: _Waiting, now: float) -> bool:
        """False where the beginning does not fit into a message."""
        for name in replicas:
            if now - waiting.asked.get(name, -_AGAIN_S) >= _AGAIN_S:
                waiting.asked[name] = now
                if not await self.replicas.tell(name, change.to):
                    return False
        return True

    def _go_live(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._live[key] = None
        if len(self._live) > _KEPT:
            self._live.popitem(last=False)
