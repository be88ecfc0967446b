"""Settings of memory: `PENSTOCK_MEMORY_…`."""

from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class MemorySettings(ServiceSettings):
    """How much of a conversation is kept, and for how long."""

    service: ClassVar[str] = "memory"

    kept_turns: int = Field(default=20, ge=1, le=1000)
    session_ttl_s: int = Field(default=7 * 24 * 3600, ge=1)  # after its last turn
