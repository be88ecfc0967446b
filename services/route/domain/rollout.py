"""A new version of a prompt: which replicas must know how it begins before questions come with it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from contracts.events import shown
from services.route.domain.prefix import Beginning
from services.route.domain.replicas import Candidate, preference


@dataclass(frozen=True)
class Change:
    """How the newest version of a prompt begins for one tenant, and the key of the version before."""

    to: Beginning
    before: str  # the key that the same questions had before


def cold(change: Change, held: Mapping[str, Collection[str]]) -> list[str]:
    """The replicas that have to be warmed before traffic moves; `held`: the keys that each replica of the model shows.

    As many will serve the new key as hold the old one, by the new key's own ranking. Where nobody holds the old one
    there is no traffic to protect.
    """
    serving = sum(shown(change.before) in keys for keys in held.values())
    ranked = preference(change.to.key, [Candidate(name) for name in held])
    return [replica.name for replica in ranked[:serving] if shown(change.to.key) not in held[replica.name]]
