"""Replicas that say they are alive: where their work goes, and what becomes of it when they fall silent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest
from in_process import Core, GenerateSettings

from contracts import subjects
from contracts.item import Input, Item, Message
from contracts.job import Lane
from contracts.steps import Generate
from contracts.subjects import REPLICAS
from contracts.task import Task
from services.generate_gpu.adapters.register import Register
from services.generate_gpu.adapters.warming import Warming
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.load import Load
from services.route.adapters.replicas import Replicas
from services.route.domain.prefix import Beginning
from services.route.domain.replicas import Candidate, preference
from shared.worker import Worker

pytestmark = pytest.mark.servers

MODEL = "house"
HOT, KEY = (Beginning("acme", MODEL, "policy@1", key, (Message("system", key),)) for key in ("hot", "key"))


@pytest.fixture
async def replicas(core: Core) -> AsyncIterator[Replicas]:
    opened = Replicas(core.bus)
    await opened.open()
    yield opened
    await opened.close()


@dataclass
class Keeper:
    """Computes nothing before it may, and notes what it is asked to; the real engine does it in tests/real_vllm."""

    may: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[CompletionRequest] = field(default_factory=list)
    alive: bool = True

    def ready(self) -> bool:
        return self.alive

    async def warm(self, request: CompletionRequest) -> None:
        await self.may.wait()
        self.requests.append(request)


async def replica(
    core: Core,
    name: str,
    taken: list[str],
    *,
    slots: int = 4,
    at_once: int = 32,
    hang: bool = False,
    until: asyncio.Event | None = None,
    load: Load | None = None,
    engine: Keeper | None = None,
) -> Register:
    """A generate service of one model; it notes what it takes as <name>:<task>. `until`: its tasks take so long."""
    done = until or asyncio.Event()

    async def take(task: Task, step: Generate) -> list[Item]:
        taken.append(f"{name}:{task.id}")
        if hang or until:
            await done.wait()
        return task.items

    worker = core.worker(GenerateSettings(ack_wait_s=30, interactive_slots=at_once))
    worker.on(Generate, take)
    await worker.start()
    register = Register(worker, name, {MODEL: engine or Keeper()}, slots, load or Load())
    await register.open()
    return register


async def silence(register: Register) -> None:
    """What is left of a replica whose process was killed: its consumers, and what they hold."""
    assert register._saying is not None
    register._saying.cancel()
    worker: Worker = register.worker
    for pull in worker._pulls:
        pull._stopped = True
        if pull._watch is not None:
            pull._watch.cancel()
        if pull._subscription is not None:
            await pull._subscription.unsubscribe()


async def send(core: Core, n: int, to: str, lane: Lane = "interactive") -> None:
    task = Task(
        id=f"{core.tenant}/j1/{n}", tenant=core.tenant, job="j1", pattern="p", items=[Item(n=n, input=Input("q"))],
        steps=[Generate(model=MODEL, replica=to)], group=f"{core.tenant}/j1", index=n, lane=lane,
    )  # fmt: skip
    await core.hops.forward(task, {})


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for has no events
            await asyncio.sleep(0.02)


async def test_a_replica_that_says_so_is_chosen_and_takes_its_work(core: Core, replicas: Replicas) -> None:
    assert replicas.choose(KEY) == ""
    taken: list[str] = []
    register = await replica(core, "one", taken)
    await until(lambda: replicas.choose(KEY) == "one")
    assert replicas.choose(replace(KEY, model="another")) == ""
    await send(core, 0, "one")
    await send(core, 1, "one", "batch")
    await until(lambda: len(taken) == 2)
    assert sorted(taken) == [f"one:{core.tenant}/j1/0", f"one:{core.tenant}/j1/1"]
    stored = await core.bus.js.get_last_msg(f"KV_{REPLICAS.name}", subjects.replica("one"))
    assert b'"models":["house"]' in (stored.data or b"")
    await register.close()


async def test_a_newcomer_computes_what_moves_to_it_before_it_is_chosen_for_it(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    old = await replica(core, "old", taken, slots=1000)
    await until(lambda: "old" in replicas._alive())
    asked = [replace(KEY, key=f"key-{n}", messages=(Message("system", f"Manual {n}."),)) for n in range(12)]
    asked.append(replace(KEY, key="too large", messages=(Message("system", "x" * core.bus.nc.max_payload),)))
    moving = {one.key for one in asked if preference(one.key, [Candidate("old"), Candidate("new")])[0].name == "new"}
    assert 2 < len(moving) < len(asked)
    assert {replicas.choose(one) for one in asked} == {"old"}
    engine, load = Keeper(), Load()
    warming = Warming(core.bus.nc, "new", {MODEL: engine}, load)
    await warming.open()
    new = await replica(core, "new", taken, slots=1000, load=load)
    await until(lambda: "new" in replicas._alive())
    assert {replicas.choose(one) for one in asked if one.key != "too large"} == {"old"}
    engine.may.set()
    await until(lambda: {one.key for one in asked if replicas.choose(one) == "new"} == moving)
    assert {request.messages[0].content for request in engine.requests} == {
        one.messages[0].content for one in asked if one.key in moving - {"too large"}
    }
    await warming.close()
    for register in (old, new):
        await register.close()


async def test_equal_keys_go_to_one_replica_until_it_is_full(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    registers = [await replica(core, name, taken) for name in ("one", "two")]
    await until(lambda: len(replicas._alive()) == 2)
    chosen = [replicas.choose(HOT) for _ in range(4)]
    assert len(set(chosen)) == 1
    assert replicas.choose(HOT) not in ("", chosen[0])
    for register in registers:
        await register.close()


async def test_the_waiting_work_of_a_dead_replica_goes_to_others(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    dead = await replica(core, "dead", taken, hang=True)
    await send(core, 0, "dead")
    await until(lambda: taken == [f"dead:{core.tenant}/j1/0"])
    await silence(dead)
    for n in (1, 2, 3):
        await send(core, n, "dead", "batch" if n == 3 else "interactive")
    alive = await replica(core, "alive", taken)
    await until(lambda: len(taken) == 5, seconds=5.0)
    assert sorted(taken[1:]) == [f"alive:{core.tenant}/j1/{n}" for n in range(4)]
    assert replicas.choose(KEY) == "alive"
    await alive.close()


async def test_a_replica_that_leaves_gets_nothing_more_and_loses_nothing(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    leaving = await replica(core, "leaving", taken)
    await until(lambda: replicas.choose(KEY) == "leaving")
    await leaving.close()
    await leaving.worker.drain(1.0)
    await until(lambda: replicas.choose(KEY) == "")
    await send(core, 0, "leaving")  # chosen a moment before
    staying = await replica(core, "staying", taken)
    await until(lambda: taken == [f"staying:{core.tenant}/j1/0"])
    await staying.close()


async def test_one_that_leaves_finishes_what_it_has_in_hand_and_others_get_what_waits(
    core: Core, replicas: Replicas
) -> None:
    """Its drain takes longer than the three seconds after which a silent replica is gone."""
    taken: list[str] = []
    done = asyncio.Event()
    leaving = await replica(core, "leaving", taken, at_once=2, until=done)
    await until(lambda: replicas.choose(KEY) == "leaving")
    for n in range(5):
        await send(core, n, "leaving")
    await until(lambda: len(taken) == 2)
    staying = await replica(core, "staying", taken)
    await leaving.leave()
    await send(core, 5, "leaving")  # chosen a moment before
    drained = asyncio.create_task(leaving.worker.drain(30))
    await until(lambda: len(taken) == 6, seconds=5.0)
    assert {replicas.choose(KEY) for _ in range(20)} == {"staying"}
    await asyncio.sleep(REPLICAS.ttl_s + 2)
    assert not drained.done()
    done.set()
    await drained
    await leaving.close()
    await asyncio.sleep(2)  # two looks after what waits for one that is gone
    assert sorted(taken) == [f"leaving:{core.tenant}/j1/{n}" for n in (0, 1)] + [
        f"staying:{core.tenant}/j1/{n}" for n in (2, 3, 4, 5)
    ]
    assert await core.count("WORK") == 0
    await staying.close()


@pytest.mark.parametrize("silently", [False, True])
async def test_what_one_that_leaves_has_not_finished_goes_to_others_when_it_is_gone(
    core: Core, replicas: Replicas, silently: bool
) -> None:
    taken: list[str] = []
    leaving = await replica(core, "leaving", taken, hang=True)
    await send(core, 0, "leaving")
    await until(lambda: len(taken) == 1)
    staying = await replica(core, "staying", taken)
    await leaving.leave()
    if silently:
        await silence(leaving)
    else:
        await leaving.worker.drain(0.5)
        await leaving.close()
    await until(lambda: taken[1:] == [f"staying:{core.tenant}/j1/0"], seconds=REPLICAS.ttl_s + 3 if silently else 3.0)
    await staying.close()


async def test_work_that_is_moved_twice_is_done_once(core: Core, replicas: Replicas) -> None:
    """Two routes look after it at the same time."""
    other = Replicas(core.bus)
    await send(core, 0, "gone")
    moved = await asyncio.gather(replicas.move_orphans(), other.move_orphans(), return_exceptions=True)
    assert 1 in moved
    info = await core.bus.js.stream_info("WORK", subjects_filter="work.>")
    assert info.state.subjects == {f"work.generate.{MODEL}.interactive": 1}


async def test_what_cannot_be_read_is_no_replica(core: Core, replicas: Replicas) -> None:
    await core.bus.nc.publish(subjects.replica("odd"), b"{")
    taken: list[str] = []
    one = await replica(core, "one", taken)
    await until(lambda: replicas.choose(KEY) == "one")
    assert replicas._alive().keys() == {"one"}
    await one.close()


def test_load_counts_calls_and_keeps_the_newest_prefixes() -> None:
    load = Load()
    with load.of(3, "a"), load.of(2, "b"), load.of(1, "a"), load.of(1, ""):
        assert load.running == 7
    assert load.running == 0
    assert load.prefixes == ["a", "b"]
    for n in range(2000):
        with load.of(1, str(n)):
            pass
    assert load.prefixes[:2] == ["1999", "1998"]
    assert len(load.prefixes) == 64


async def test_a_replica_whose_engine_has_died_gets_no_work_until_it_is_back(core: Core, replicas: Replicas) -> None:
    engine, load, taken = Keeper(), Load(), list[str]()
    load.holds(KEY.key)
    register = await replica(core, "one", taken, load=load, engine=engine)
    await until(lambda: replicas.choose(KEY) == "one")
    engine.alive = False
    await until(lambda: replicas.choose(KEY) == "")
    assert not load.known(KEY.key)  # a cache dies with its engine
    engine.alive = True
    await until(lambda: replicas.choose(KEY) == "one")
    assert replicas.held(MODEL) == {"one": frozenset()}
    await register.close()
