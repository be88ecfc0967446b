"""Replicas that have just joined: what moves to them is computed there before questions come with it.

Rendezvous hashing gives a replica that joins its share of all keys at once, and it holds none of them. So route
remembers how the prompts begin that it renders, by how much they are asked for. Those of the hottest that move to a
newcomer stay where they are until the newcomer says that it holds them, or its time is over.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from contracts.events import Replica, shown
from services.route.domain.prefix import Beginning
from services.route.domain.replicas import Candidate, preference

MOST = 32
"""Beginnings that a newcomer is warmed with."""
LONGEST_S = 60.0
"""Then it is chosen all the same: a replica that cannot compute a beginning shall not be without work for ever."""
AGAIN_S = 5.0
"""Of silence about what it was told: core NATS may lose a word."""

_HALF_LIFE_S = 600.0
_FORGOTTEN_S = 3600.0  # after the last question
_KEPT = 512
_KEPT_CHARACTERS = 16 << 20
_ROOM = 0.9  # of both, once one of them was reached


@dataclass
class _Heat:
    """Calls, each counting half as much with every ten minutes."""

    calls: float
    at: float

    def now(self, now: float) -> float:
        return self.calls * math.exp2((self.at - now) / _HALF_LIFE_S)


class Hottest:
    """The beginnings that are asked for most, bounded in number, size and age."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Beginning, _Heat]] = {}
        self._characters = 0

    def asked(self, beginning: Beginning, calls: int, now: float) -> None:
        known = self._kept.get(beginning.key)
        if known is None:
            self._characters += beginning.size
        earlier = known[1].now(now) if known else 0.0
        self._kept[beginning.key] = (beginning, _Heat(earlier + calls, now))
        if len(self._kept) > _KEPT or self._characters > _KEPT_CHARACTERS:
            self._make_room(now)

    def of(self, models: Collection[str], now: float) -> list[Beginning]:
        """Those of these models, the hottest first."""
        found = [(heat.now(now), beginning) for beginning, heat in self._kept.values() if beginning.model in models]
        return [beginning for _, beginning in sorted(found, key=lambda one: one[0], reverse=True)]

    def forget(self, now: float) -> None:
        """Texts that nobody has asked for in an hour are let go of."""
        for key in [key for key, (_, heat) in self._kept.items() if now - heat.at > _FORGOTTEN_S]:
            self._drop(key)

    def forget_all(self, tenant: str) -> None:
        """It has been erased."""
        for key in [key for key, (beginning, _) in self._kept.items() if beginning.tenant == tenant]:
            self._drop(key)

    def _make_room(self, now: float) -> None:
        """The coldest go, some more than have to: looking for them is not done for each new one."""
        coldest = sorted(self._kept, key=lambda key: self._kept[key][1].now(now))
        for key in coldest:
            if len(self._kept) <= _KEPT * _ROOM and self._characters <= _KEPT_CHARACTERS * _ROOM:
                return
            self._drop(key)

    def _drop(self, key: str) -> None:
        beginning, _ = self._kept.pop(key)
        self._characters -= beginning.size


@dataclass
class _Newcomer:
    """What a replica is still to compute, by key."""

    since: float
    missing: dict[str, Beginning]
    told: float = -math.inf


@dataclass
class Newcomers:
    """Knows which replicas are not to be chosen for a key yet. `clock`: seconds, monotonic."""

    clock: Callable[[], float] = time.monotonic
    hottest: Hottest = field(default_factory=Hottest)
    _waiting: dict[str, _Newcomer] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)  # each process has a name of its own

    def asked(self, beginning: Beginning, calls: int) -> None:
        """So many prompts begin so."""
        self.hottest.asked(beginning, calls, self.clock())

    def forget(self) -> None:
        """What nobody has asked for of late."""
        self.hottest.forget(self.clock())

    def erased(self, tenant: str) -> None:
        """Nothing of it is kept, and nobody is told any more of it."""
        self.hottest.forget_all(tenant)
        for name, waiting in list(self._waiting.items()):
            for key in [key for key, one in waiting.missing.items() if one.tenant == tenant]:
                self.computed(name, key)

    def heard(self, about: Replica, others: Collection[Replica]) -> None:
        """A replica has spoken, for the first time perhaps; `others` are those that are alive besides."""
        if about.name not in self._seen:
            self._seen.add(about.name)
            if moving := self._moving(about, others):
                self._waiting[about.name] = _Newcomer(self.clock(), {one.key: one for one in moving})
        waiting = self._waiting.get(about.name)
        if waiting is None:
            return
        held = set(about.prefixes)
        for key in [key for key in waiting.missing if shown(key) in held]:
            self.computed(about.name, key)
            waiting.told = max(waiting.told, self.clock())  # it is at work

    def computed(self, name: str, key: str) -> None:
        """A replica holds this beginning, or never will before questions come."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.missing.pop(key, None)
            if not waiting.missing:
                del self._waiting[name]

    def left(self, name: str) -> None:
        """It is gone; should it come back, its engine has been started anew."""
        self._waiting.pop(name, None)
        self._seen.discard(name)

    def withheld(self, key: str) -> set[str]:
        """The replicas that are not to be chosen for this key yet."""
        return {name for name, waiting in self._waiting.items() if key in waiting.missing}

    def due(self) -> list[tuple[str, Beginning]]:
        """What is to be told now, to whom: at first, and again after a silence. Drops what has taken too long."""
        now = self.clock()
        for name in [name for name, waiting in self._waiting.items() if now - waiting.since >= LONGEST_S]:
            del self._waiting[name]
        silent = [(name, one) for name, one in self._waiting.items() if now - one.told >= AGAIN_S]
        for _, waiting in silent:
            waiting.told = now
        return [(name, beginning) for name, waiting in silent for beginning in waiting.missing.values()]

    def _moving(self, about: Replica, others: Collection[Replica]) -> list[Beginning]:
        """The hottest that this replica owns from now on, without those that it holds."""

        def owner(one: Beginning) -> str:
            names = [about.name, *(other.name for other in others if one.model in other.models)]
            return preference(one.key, [Candidate(name) for name in names])[0].name

        hottest, held = self.hottest.of(about.models, self.clock()), set(about.prefixes)
        return [one for one in hottest if shown(one.key) not in held and owner(one) == about.name][:MOST]
