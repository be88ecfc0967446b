"""What a prompt's stable beginning is called, so that equal beginnings are sent to the replica that holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from contracts.item import Message
from services.route.domain.prompts import Prompt

_BYTES = 12


@dataclass(frozen=True)
class PrefixKey:
    """Two prompts with equal keys begin with the same tokens, as far as their system message and material go."""

    model: str
    policy: str  # hash of the prompt's version: its name, number and templates
    system: str  # hash of system message and material as they were rendered, manual, glossary and context included

    @cached_property
    def digest(self) -> str:
        return _hash(self.model, self.policy, self.system)

    def of(self, tenant: str) -> str:
        """The key within a tenant: what replicas are chosen by. Tenants never share blocks, so they need not meet."""
        return _hash(tenant, self.digest)


@dataclass(frozen=True)
class Beginning:
    """What all prompts of a key begin with, and whose it is: all that a replica needs to compute it beforehand."""

    tenant: str
    model: str
    prompt: str  # name@version
    key: str  # within the tenant
    messages: tuple[Message, ...]

    @property
    def size(self) -> int:
        """Characters."""
        return sum(len(message.content) for message in self.messages)


def prefix_key(model: str, prompt: Prompt, beginning: Sequence[str]) -> PrefixKey:
    """The key of a prompt that begins so (`render.beginning`); it does not depend on history, passages or question."""
    return PrefixKey(model, prompt.digest, _hash(*beginning))


def begun(tenant: str, model: str, prompt: Prompt, system: str, material: str) -> Beginning:
    """The beginning that a prompt has with this system message and this material."""
    messages = (Message("system", system), *([Message("user", material)] if material else []))
    return Beginning(tenant, model, prompt.ref, prefix_key(model, prompt, (system, material)).of(tenant), messages)


def _hash(*parts: str) -> str:
    """Each part with its length, so that no two lists of parts read the same."""
    raw = [part.encode() for part in parts]
    joined = b"".join(len(part).to_bytes(8, "big") + part for part in raw)
    return blake2b(joined, digest_size=_BYTES).hexdigest()
