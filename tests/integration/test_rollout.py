"""A new version of a prompt on a real NATS server: replicas compute its beginning, then questions come with it."""

import asyncio
from dataclasses import dataclass, field
from hashlib import blake2b

import pytest
from in_process import Core, GenerateSettings

from contracts.item import Message
from services.generate_gpu.adapters.register import Register
from services.generate_gpu.adapters.warming import Warming
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.load import Load
from services.generate_gpu.domain.salt import salt
from services.route.adapters.replicas import Replicas
from services.route.adapters.rollout import LONGEST_S, Rollout
from services.route.domain.prefix import Beginning
from services.route.domain.rollout import Change
from shared.errors import ItemError

pytestmark = pytest.mark.servers

MESSAGES = (Message("system", "You answer from the manual."), Message("user", "A chart."))
CHANGE = Change(Beginning("acme", "house", "policy@2", "new", MESSAGES), "old")


@dataclass
class Kept:
    """Notes what it is to compute; the real engine does it in tests/real_vllm."""

    error: ItemError | None = None
    requests: list[CompletionRequest] = field(default_factory=list)

    def ready(self) -> bool:
        return True

    async def warm(self, request: CompletionRequest) -> None:
        self.requests.append(request)
        if self.error is not None:
            raise self.error


@dataclass
class Replica:
    """A replica as far as its register and its ear go."""

    load: Load
    engine: Kept
    register: Register
    warming: Warming

    async def close(self) -> None:
        await self.register.close()
        await self.warming.close()


async def replica(core: Core, name: str, engine: Kept) -> Replica:
    """One that has seen the version before."""
    worker = core.worker(GenerateSettings(ack_wait_s=30))
    await worker.start()
    load = Load()
    load.holds("old")
    found = Replica(
        load,
        engine,
        Register(worker, name, {"house": engine}, 4, load),
        Warming(core.bus.nc, name, {"house": engine}, load),
    )
    await found.warming.open()
    await found.register.open()
    return found


async def heard(replicas: Replicas) -> None:
    async with asyncio.timeout(10):
        while not replicas.heard_all:  # noqa: ASYNC110 - it is a matter of time
            await asyncio.sleep(0.05)


async def until_ready(rollout: Rollout) -> int:
    """How often the version before was still taken."""
    refused = 0
    async with asyncio.timeout(20):
        while not await rollout.ready(CHANGE):
            refused += 1
            await asyncio.sleep(0.05)
    return refused


async def test_questions_wait_with_the_new_version_until_all_who_will_serve_it_know_it(
    core: Core, replicas: Replicas
) -> None:
    both = [await replica(core, name, Kept()) for name in ("one", "two")]
    while len(replicas.held("house")) < 2:  # noqa: ASYNC110 - they say so themselves
        await asyncio.sleep(0.02)
    assert await until_ready(Rollout(replicas)) > 0
    for one in both:
        assert one.load.known("new")
        (request,) = one.engine.requests
        assert request.messages == list(MESSAGES)
        assert request.salt == salt("acme", "policy@2"), "that of the questions to come"
        await one.close()


def live(load: Load, keys: int) -> None:
    """So many prefixes that have been asked for since."""
    for n in range(keys):
        load.holds(blake2b(str(n).encode(), digest_size=12).hexdigest())


async def test_with_a_thousand_live_prefixes_a_version_still_waits_until_it_is_known(
    core: Core, replicas: Replicas
) -> None:
    one = await replica(core, "one", Kept())
    live(one.load, 1000)
    assert one.load.prefixes[-1] == "old"
    await until_shown(replicas, 1001)
    await heard(replicas)
    assert await until_ready(Rollout(replicas)) > 0
    assert len(one.engine.requests) == 1
    await one.close()


async def test_what_a_replica_has_computed_long_ago_is_not_computed_again(core: Core, replicas: Replicas) -> None:
    one = await replica(core, "one", Kept())
    one.load.holds("new")
    live(one.load, 1000)
    await until_shown(replicas, 1002)
    await heard(replicas)
    assert await until_ready(Rollout(replicas)) == 0
    assert one.engine.requests == []
    await one.close()


async def until_shown(replicas: Replicas, keys: int) -> None:
    async with asyncio.timeout(10):
        while [len(shown) for shown in replicas.held("house").values()] != [keys]:  # noqa: ASYNC110 - it says so itself
            await asyncio.sleep(0.05)


async def test_a_version_that_nobody_can_compute_goes_live_all_the_same(core: Core, replicas: Replicas) -> None:
    one = await replica(core, "one", Kept(ItemError("too_large", "the prompt has 9000 tokens")))
    while not replicas.held("house"):  # noqa: ASYNC110 - it says so itself
        await asyncio.sleep(0.02)
    now = 100.0
    rollout = Rollout(replicas, clock=lambda: now)
    await heard(replicas)
    assert not await rollout.ready(CHANGE)
    now += LONGEST_S
    assert await rollout.ready(CHANGE)
    assert not one.load.known("new")
    await one.close()


async def test_without_replicas_that_keep_prefixes_a_version_is_live_at_once(replicas: Replicas) -> None:
    rollout = Rollout(replicas)
    assert not await rollout.ready(CHANGE), "who has just begun to listen does not know that there are none"
    await heard(replicas)
    assert await rollout.ready(CHANGE)
