"""The gate between JOBS and WORK: batch jobs wait in JOBS while WORK holds much, so that what is under way has room.

A task may grow on its way up to `CLAIM_BYTES` (more goes to the object store). So many messages that they would fill
half of WORK even then are let in; a full WORK could not be worked off, as each step publishes the next one first.
"""

import random
from dataclasses import dataclass

from contracts.job import Lane
from contracts.subjects import WORK
from shared.bus import BUSY_S, CLAIM_BYTES, Bus, answered
from shared.errors import QueueFull


@dataclass(frozen=True)
class Gate:
    """Asked before a job is opened."""

    bus: Bus

    async def check(self, lane: Lane) -> None:
        """Raises QueueFull where a batch job has to wait. People who wait are let in."""
        if lane == "interactive":
            return
        info = await answered(self.bus.js.stream_info(WORK.name))
        most_bytes = (info.config.max_bytes or 0) // 2
        most = most_bytes // CLAIM_BYTES
        if info.state.messages > most or info.state.bytes > most_bytes:
            pause = random.uniform(1, 3) * BUSY_S
            raise QueueFull(f"{info.state.messages:,} tasks are under way; the job waits", after=pause)
