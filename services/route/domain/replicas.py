"""Which replica of a model gets a task: rendezvous hashing with bounded load.

Every replica has a score for every key; the highest wins, so a replica that joins takes its share of the keys from
all the others and no key moves between those (Thaler and Ravishankar, 1998). One that has more to do than it can
batch, and than its fair share, is passed over for the next of the same key (Mirrokni, Thorup and Zadimoghaddam,
2018): a hot prefix spreads before it queues, and always to the same second replica.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

FAIR = 1.25  # times the mean load that a replica may have before others take its keys


@dataclass(frozen=True)
class Candidate:
    """A replica as it last said about itself. `load`: calls it has, waiting ones too; `slots`: those it batches."""

    name: str
    load: int = 0
    slots: int = 1


def pick(key: str, candidates: Sequence[Candidate], fair: float = FAIR) -> Candidate | None:
    """The replica for a prefix key; None where there is none. Depends on nothing but its arguments."""
    if not candidates:
        return None
    fair_load = math.ceil(fair * (sum(candidate.load for candidate in candidates) + 1) / len(candidates))
    ranked = preference(key, candidates)
    return next((one for one in ranked if one.load < max(one.slots, fair_load)), ranked[0])


def preference(key: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    """All replicas, the one that owns the key first."""
    return sorted(candidates, key=lambda candidate: (_score(key, candidate.name), candidate.name), reverse=True)


@dataclass(frozen=True)
class Orphans:
    """Work that waits for a replica which is gone, or takes nothing new."""

    subject: str  # work.generate.<model>.<lane>.<replica>
    target: str  # where anybody finds it
    lane: str
    replica: str


def orphans(waiting: Iterable[str], staying: Collection[str]) -> list[Orphans]:
    """Which of these subjects of work are for none of the replicas that stay."""
    parts = [(subject, *subject.rpartition(".")) for subject in waiting]
    found = [Orphans(subject, target, target.rpartition(".")[2], replica) for subject, target, _, replica in parts]
    return [one for one in found if one.replica not in staying]


def _score(key: str, name: str) -> bytes:
    return blake2b(f"{len(key)}:{key}{name}".encode(), digest_size=8).digest()
