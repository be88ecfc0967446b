"""What a prompt's stable beginning is called, so that equal beginnings are sent to the replica that holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

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


def prefix_key(model: str, prompt: Prompt, beginning: Sequence[str]) -> PrefixKey:
    """The key of a prompt that begins so (`render.beginning`); it does not depend on history, passages or question."""
    return PrefixKey(model, prompt.digest, _hash(*beginning))


def _hash(*parts: str) -> str:
    """Each part with its length, so that no two lists of parts read the same."""
    raw = [part.encode() for part in parts]
    joined = b"".join(len(part).to_bytes(8, "big") + part for part in raw)
    return blake2b(joined, digest_size=_BYTES).hexdigest()
