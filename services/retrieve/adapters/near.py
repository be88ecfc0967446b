"""Earlier questions by likeness: their vectors, as Redis keeps them, in this process for as many tenants as fit."""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from shared.answers import MOST, Answers
from shared.encoder import Floats

TENANTS = 32  # 1.5 MB each at most


@dataclass(frozen=True)
class Neighbour:
    """An earlier question of the same scope, with the key of its answer; `similarity` is the cosine."""

    key: str
    question: str
    similarity: float


@dataclass
class _Tenant:
    until: float = 0.0
    by_key: OrderedDict[str, tuple[str, str, Floats]] = field(default_factory=OrderedDict)  # scope, question, vector


class Near:
    """Finds the nearest earlier questions of a tenant."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    async def nearest(self, tenant: str, scope: str, vector: Floats, least: float, most: int = 3) -> list[Neighbour]:
        """Earlier questions whose cosine with `vector` (384,), of unit length, is at least so much, nearest first."""
        mine = await self._caught_up(tenant)
        same = [(key, question, other) for key, (theirs, question, other) in mine.by_key.items() if theirs == scope]
        if not same:
            return []
        cosines = np.stack([other for _, _, other in same]) @ vector
        order = [int(row) for row in np.argsort(-cosines)[:most] if cosines[row] >= least]
        return [Neighbour(same[row][0], same[row][1], float(cosines[row])) for row in order]

    def forget(self, tenant: str, key: str) -> None:
        """An answer that is not kept any more."""
        if tenant in self._tenants:
            self._tenants[tenant].by_key.pop(key, None)

    def forget_all(self, tenant: str) -> None:
        """All that a tenant has asked."""
        self._tenants.pop(tenant, None)

    async def _caught_up(self, tenant: str) -> _Tenant:
        mine = self._tenants.setdefault(tenant, _Tenant())
        self._tenants.move_to_end(tenant)
        while len(self._tenants) > TENANTS:
            self._tenants.popitem(last=False)
        news = await self._answers.asked(tenant, mine.until)
        if not news.size:
            mine.by_key.clear()  # all of it was erased, or has run out
        mine.until = news.until if news.size else 0.0
        for key, asked in news.asked.items():
            vector = np.frombuffer(asked.vector, "<f2").astype(np.float32)
            mine.by_key[key] = (asked.scope, asked.question, vector)
            mine.by_key.move_to_end(key)
        while len(mine.by_key) > MOST:
            mine.by_key.popitem(last=False)
        return mine
