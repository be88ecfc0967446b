"""The salt of a prefix cache: blocks that one tenant has filled are never found by another."""

from functools import lru_cache
from hashlib import blake2b

_BYTES = 16


@lru_cache(maxsize=4096)
def salt(tenant: str, policy: str) -> str:
    """Equal for equal tenants and policy versions (name@version of the prompt), different for all others.

    The parts are hashed with their lengths, so that no two pairs read the same. The tenant comes from the task, which
    took it from the subject: what a client writes into its job has no part in it.
    """
    parts = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (tenant.encode(), policy.encode()))
    return blake2b(parts, digest_size=_BYTES, person=b"penstock-salt").hexdigest()
