"""Which replica of a model gets a task: rendezvous hashing with bounded load.

Every replica has a score for every key; the highest wins, so a replica that joins takes its share of the keys from
all the others and no key moves between those (Thaler and Ravishankar, 1998). One that has more to do than it can
batch, and than its fair share, is passed over for the next of the same key (Mirrokni, Thorup and Zadimoghaddam,
2018): a hot prefix spreads before it queues, and always to the same second replica.

What comes before the question in a session is known only where its last turn was. So among the replicas that a prefix
has spread over, each session has an order of its own, and its turns meet on one of them while that has room.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

FAIR = 1.25  # times the mean load that a replica may have before others take its keys
_NEWEST = 1024


@dataclass(frozen=True)
class Candidate:
    """A replica as it last said about itself.

    `load`: the calls that it said it has, and those that were sent to it since; what NATS holds for it longer than that
    is in neither. `slots`: those it batches.
    """

    name: str
    load: int = 0
    slots: int = 1
    serves: bool = False  # the key in question has been computed there


def pick(key: str, candidates: Sequence[Candidate], session: str = "", fair: float = FAIR) -> Candidate | None:
    """The replica for a prefix key; None where there is none. Depends on nothing but its arguments."""
    if not candidates:
        return None
    fair_load = math.ceil(fair * (sum(candidate.load for candidate in candidates) + 1) / len(candidates))
    ranked = preference(key, candidates)
    room = [one for one in ranked if one.load < max(one.slots, fair_load)]
    serving = [one for one in room if one.serves]
    if session and serving and sum(one.serves for one in candidates) > 1:
        return preference(f"{key}/{session}", serving)[0]
    return room[0] if room else ranked[0]


def preference(key: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    """All replicas, the one that owns the key first."""
    return sorted(candidates, key=lambda candidate: (_score(key, candidate.name), candidate.name), reverse=True)


class Keys:
    """The newest of many keys."""

    def __init__(self) -> None:
        self._kept: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def add(self, key: str) -> None:
        self._kept.pop(key, None)
        self._kept[key] = None
        if len(self._kept) > _NEWEST:
            del self._kept[next(iter(self._kept))]


@dataclass(frozen=True)
class Orphans:
    """Work that waits for a replica which is gone, or takes nothing new."""

    subject: str  # work.generate.<model>.<lane>.<replica>
    target: str  # where anybody finds it
    lane: str
    replica: str


def orphans(waiting: Iterable[str], staying: Collection[str]) -> list[Orphans]:
    """Which of these subjects of work are for none of the replicas that stay; those that people wait for come first."""
    parts = [(subject, *subject.rpartition(".")) for subject in waiting]
    found = [Orphans(subject, target, target.rpartition(".")[2], replica) for subject, target, _, replica in parts]
    return sorted((one for one in found if one.replica not in staying), key=lambda one: one.lane != "interactive")


def _score(key: str, name: str) -> bytes:
    return blake2b(f"{len(key)}:{key}{name}".encode(), digest_size=8).digest()
