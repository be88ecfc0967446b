"""Room in WORK: who adds tasks to it asks here first, so that who passes them on always finds a place.

A hop publishes the next one before it acknowledges, so it needs one place more for a moment. In a stream that is full
to the last message nobody could go on, and nothing would ever leave it. Tasks are added by opening jobs and by
scattering alone, and both stop long before that (docs/decisions/0022 has the argument).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from contracts.job import LANES, Lane
from contracts.subjects import WORK
from shared.bus import BUSY_S, CLAIM_BYTES, HEADERS_MAX, Bus
from shared.errors import Later, QueueFull

SHARES: dict[Lane, float] = {"batch": 0.75, "interactive": 0.25}
"""What each lane may take of the stream: batch work never takes the places of those who wait."""

OPENING, SCATTERING = 0.5, 0.75
"""Of a lane's places, what opened jobs may fill, and what scatters may, however deep. The rest is for hops."""

WAITING = 4  # at most so many wait here at a time, holding a slot of their worker; others come back later

_STEPS = 64
_GOOD_FOR_S = 1.0
_PATIENCE_S = 5.0
_LOOK_S = 0.1
_PLACE = CLAIM_BYTES + HEADERS_MAX  # what a task may grow to on its way; more goes to the object store
_ENDLESS = 1 << 40


@dataclass
class _Known:
    """What is known of one lane: tasks when the stream was looked at, and what was let in since."""

    tasks: int = 0
    since: int = 0
    unconfirmed: int = 0  # let in, and perhaps not yet stored


@dataclass
class Room:
    """The places of one process. Several processes look at the same stream; what they may let in between two looks is
    little against what is kept free."""

    bus: Bus
    _capacity: int = 0
    _looked: float = -_GOOD_FOR_S
    _lanes: dict[Lane, _Known] = field(default_factory=lambda: {lane: _Known() for lane in SHARES})
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: Counter[Lane] = field(default_factory=Counter)

    async def check(self, lane: Lane) -> None:
        """Raises QueueFull where no job of this lane may be opened now."""
        if await self._free(lane, 0, 0) < 1:
            raise QueueFull("too many tasks are under way; the job waits", after=_pause_s(lane))

    @asynccontextmanager
    async def places(self, lane: Lane, depth: int, wanted: int) -> AsyncIterator[int]:
        """How many of `wanted` tasks may be published now, at least one. `depth`: 0 for the shards of a job, 1 for the
        children of a scatter, and so on. Waits a little where there is no place; raises Later where there is none then.
        """
        free = await self._free(lane, depth, wanted)
        if free < 1 and self._waiting[lane] < WAITING:
            free = await self._waited(lane, depth, wanted)
        if free < 1:
            raise Later("too many tasks are under way", after=_pause_s(lane))
        try:
            yield free
        finally:
            self._lanes[lane].unconfirmed -= free

    async def _waited(self, lane: Lane, depth: int, wanted: int) -> int:
        until = time.monotonic() + _PATIENCE_S
        self._waiting[lane] += 1
        try:
            free = 0
            while free < 1 and time.monotonic() < until:
                await asyncio.sleep(random.uniform(0.5, 1.5) * _LOOK_S)
                free = await self._free(lane, depth, wanted)
            return free
        finally:
            self._waiting[lane] -= 1

    async def _free(self, lane: Lane, depth: int, wanted: int) -> int:
        """Take up to `wanted` places; with 0 wanted, says whether there is one."""
        known = self._lanes[lane]
        async with self._looking:
            if self._old(known) or self._left(lane, depth) < max(wanted, 1):
                await self._look()
            free = self._left(lane, depth)
            if wanted:
                free = max(0, min(wanted, free, self._step))
                known.since += free
                known.unconfirmed += free
            return free

    def _old(self, known: _Known) -> bool:
        return time.monotonic() - self._looked >= _GOOD_FOR_S or known.since >= self._step

    def _left(self, lane: Lane, depth: int) -> int:
        known = self._lanes[lane]
        return limit(int(self._capacity * SHARES[lane]), depth) - known.tasks - known.since

    @property
    def _step(self) -> int:
        """Places that are given at a time, and without another look."""
        return max(1, self._capacity // _STEPS)

    async def _look(self) -> None:
        """What is unconfirmed may be among the tasks that are found; it counts twice rather than not at all."""
        unconfirmed = {lane: known.unconfirmed for lane, known in self._lanes.items()}
        info = await self.bus.patiently(lambda: self.bus.js.stream_info(WORK.name, subjects_filter="work.>"))
        found: Counter[Lane | None] = Counter()
        for subject, tasks in (info.state.subjects or {}).items():
            found[lane_of(subject)] += tasks
        most_bytes, most = info.config.max_bytes or -1, info.config.max_msgs or -1
        self._capacity = min(most_bytes // _PLACE if most_bytes > 0 else _ENDLESS, most if most > 0 else _ENDLESS)
        for lane, known in self._lanes.items():
            known.tasks, known.since = found[lane], unconfirmed[lane]
        self._looked = time.monotonic()


def limit(capacity: int, depth: int) -> int:
    """Up to how many tasks of a lane another one of this depth may be added: more for each level, so that what stands
    in the stream at one level never keeps the next one, which it waits for, from coming in."""
    share = SCATTERING - (SCATTERING - OPENING) / 2**depth
    return max(int(capacity * share), int(capacity * OPENING) + depth, 1)


def lane_of(subject: str) -> Lane | None:
    """The lane of a subject of WORK; None where it is none of ours."""
    tokens = subject.split(".")[1:]
    token = next(iter(tokens[2 if tokens[:1] == ["generate"] else 1 :]), "")
    return next((lane for lane in LANES if lane == token), None)


def _pause_s(lane: Lane) -> float:
    return random.uniform(1, 2) if lane == "interactive" else random.uniform(1, 3) * BUSY_S
