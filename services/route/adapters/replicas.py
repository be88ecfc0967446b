"""The replicas of generate that are alive, as they say themselves, and what becomes of the work of those that died
or leave.

Their words are heard as they are written, over core NATS: there is no consumer that a restarted server could forget.
The bucket keeps them for people who look.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from contracts import subjects
from contracts.events import Replica, Warm, shown
from contracts.subjects import REPLICAS, WORK
from services.route.adapters.orphans import delivered, move
from services.route.domain.newcomers import Newcomers
from services.route.domain.prefix import Beginning
from services.route.domain.replicas import Candidate, Keys, orphans, pick
from shared.bus import Bus
from shared.errors import Retryable

log = logging.getLogger("penstock.route.replicas")

_LOOK_EVERY_S = 1.0
_SPOKEN_S = 1.5  # replicas speak every second


@dataclass
class _Heard:
    """The last word of a replica, and what has been sent to it since."""

    about: Replica
    at: float
    asked: Keys  # that were sent to it last, whether it has said so or not
    sent: int = 0

    def candidate(self, key: str) -> Candidate:
        serves = shown(key) in self.keys or key in self.asked
        return Candidate(self.about.name, self.about.load + self.sent, self.about.slots, serves)

    @cached_property
    def keys(self) -> frozenset[str]:
        """That it says it holds, as the register shows them."""
        return frozenset(map(shown, self.about.prefixes))


@dataclass
class Replicas:
    """Chooses replicas, and moves the work that waits for one that has gone silent. `clock`: seconds, monotonic."""

    bus: Bus
    clock: Callable[[], float] = time.monotonic
    newcomers: Newcomers = field(default_factory=Newcomers)
    _heard: dict[str, _Heard] = field(default_factory=dict)
    _since: float = math.inf  # when it began to listen
    _looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._since = self.clock()
        await self.bus.nc.subscribe(subjects.replica("*"), cb=self._hear)
        await self.bus.nc.subscribe(subjects.forget("*"), cb=self._forget)
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def choose(self, beginning: Beginning, calls: int = 1, session: str = "") -> str:
        """The replica that gets these calls; empty where none keeps prefixes for this model.

        One that has joined and is still computing the beginning is passed over, as long as there is another.
        """
        alive = self._serving(beginning.model)
        if not alive:
            return ""
        self.newcomers.asked(beginning, calls)
        withheld = self.newcomers.withheld(beginning.key)
        ready = {name: heard for name, heard in alive.items() if name not in withheld} or alive
        found = pick(beginning.key, [heard.candidate(beginning.key) for heard in ready.values()], session)
        assert found is not None, "one of them is chosen"
        alive[found.name].sent += calls
        alive[found.name].asked.add(beginning.key)
        return found.name

    async def tell(self, name: str, beginning: Beginning) -> bool:
        """Have a replica compute a beginning, behind everybody who waits; False where no message can hold it."""
        one = beginning
        payload = msgspec.json.encode(Warm(one.tenant, one.model, one.prompt, one.key, list(one.messages)))
        if len(payload) > self.bus.nc.max_payload:
            return False
        await self.bus.nc.publish(subjects.warm(name), payload)
        return True

    @property
    def heard_all(self) -> bool:
        """Whether it has listened for long enough that everybody who is alive has spoken."""
        return self.clock() - self._since > _SPOKEN_S

    def held(self, model: str) -> dict[str, frozenset[str]]:
        """The keys that each replica of a model shows; empty where none keeps prefixes for it."""
        return {name: heard.keys for name, heard in self._serving(model).items()}

    async def move_orphans(self) -> int:
        """Publish what waits for replicas that are gone anew, for whoever is free; returns how many tasks.

        One that is leaving keeps what it has in hand: it would be computed twice, and readers of a stream would see it.
        """
        alive = self._alive()
        staying = {name for name, heard in alive.items() if not heard.about.leaving}
        info = await self.bus.js.stream_info(WORK.name, subjects_filter="work.generate.*.*.*")
        moved = 0
        for one in orphans(info.state.subjects or {}, staying):
            moved += await move(self.bus, one, await delivered(self.bus, one) if one.replica in alive else 0)
        return moved

    def _alive(self) -> dict[str, _Heard]:
        silent_since = self.clock() - REPLICAS.ttl_s
        self._heard = {name: heard for name, heard in self._heard.items() if heard.at >= silent_since}
        return self._heard

    def _serving(self, model: str) -> dict[str, _Heard]:
        """Those that keep prefixes for a model, and stay."""
        alive = self._alive().items()
        return {name: heard for name, heard in alive if model in heard.about.models and not heard.about.leaving}

    async def _hear(self, message: Msg) -> None:
        name = message.subject.rpartition(".")[2]
        if "KV-Operation" in (message.headers or {}):
            self._heard.pop(name, None)
            self.newcomers.left(name)
            return
        try:
            about = msgspec.json.decode(message.data, type=Replica)
        except msgspec.MsgspecError as error:
            log.warning("replica %s says what cannot be read: %s", name, error)
            return
        earlier = self._heard.get(name)
        self._heard[name] = _Heard(about, self.clock(), earlier.asked if earlier else Keys())
        if about.leaving:
            self.newcomers.left(name)
            return
        others = [other.about for other in self._alive().values() if other.about.name != name]
        self.newcomers.heard(about, [other for other in others if not other.leaving])
        await self._warm()

    async def _forget(self, message: Msg) -> None:
        """A tenant is erased; retrieve answers who asks for that."""
        self.newcomers.erased(message.subject.partition(".")[2])

    async def _warm(self) -> None:
        """Tell newcomers what moves to them. What cannot be told is computed when the first question comes."""
        for name, beginning in self.newcomers.due():
            try:
                told = await self.tell(name, beginning)
            except NatsError as error:
                log.debug("replica %s cannot be told what to compute: %s", name, error)
                return
            if not told:
                self.newcomers.computed(name, beginning.key)

    async def _look(self) -> None:
        """Whoever has not listened for long enough cannot know who is silent; who stood still has not listened."""
        while True:
            before = self.clock()
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self.clock()
            self.newcomers.forget()
            if not self.bus.nc.is_connected or now - before > 2 * _LOOK_EVERY_S:
                self._since = now
            elif now - self._since > REPLICAS.ttl_s:
                await self._look_once()

    async def _look_once(self) -> None:
        try:
            moved = await self.move_orphans()
        except (Retryable, NatsError, APIError) as error:
            log.debug("cannot look after the work of silent replicas now: %s", error)
        except Exception:  # a fault of ours: who looks must not stop looking
            log.exception("cannot look after the work of silent replicas")
        else:
            if moved:
                log.warning("%d tasks of replicas that are gone or leave went to others", moved)
