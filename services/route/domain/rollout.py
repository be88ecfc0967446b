"""A new version of a prompt: which replicas must know how it begins before questions come with it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from contracts.item import Message
from services.route.domain.replicas import Candidate, preference


@dataclass(frozen=True)
class Change:
    """The newest version of a prompt for one tenant and one beginning, and the key of the version before."""

    tenant: str
    model: str
    prompt: str  # name@version
    key: str
    before: str  # the key that the same questions had before
    messages: Sequence[Message]


def beginning_of(system: str, material: str) -> list[Message]:
    """What all prompts of a key begin with, as messages."""
    return [Message("system", system), *([Message("user", material)] if material else [])]


def cold(change: Change, held: Mapping[str, Collection[str]]) -> list[str]:
    """The replicas that have to be warmed before traffic moves; `held`: the keys that each replica of the model holds.

    As many will serve the new key as hold the old one, by the new key's own ranking. Where nobody holds the old one
    there is no traffic to protect.
    """
    serving = sum(change.before in keys for keys in held.values())
    ranked = preference(change.key, [Candidate(name) for name in held])
    return [replica.name for replica in ranked[:serving] if change.key not in held[replica.name]]
