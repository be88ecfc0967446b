"""Replicas that say they are alive: where their work goes, and what becomes of it when they fall silent."""

import asyncio
import time
from dataclasses import replace

import msgspec
import pytest
from in_process import Core
from register import HOT, KEY, MODEL, Keeper, replica, send, until

from contracts import subjects
from contracts.item import Message
from contracts.subjects import REPLICAS, forget
from services.generate_gpu.adapters.warming import Warming
from services.generate_gpu.domain.load import Load
from services.route.adapters.replicas import Replicas
from services.route.domain.replicas import Candidate, preference

pytestmark = pytest.mark.servers


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


async def test_route_remembers_texts_for_replicas_alone_and_none_of_an_erased_tenant(
    core: Core, replicas: Replicas
) -> None:
    def known() -> list[str]:
        return [one.key for one in replicas.newcomers.hottest.of([MODEL], time.monotonic())]

    assert replicas.choose(HOT) == ""
    assert known() == [], "nobody keeps prefixes"
    only = await replica(core, "only", [])
    await until(lambda: replicas.choose(KEY) == "only")
    assert known() == ["key"]
    await core.bus.nc.publish(forget("another"), b"{}")
    await core.bus.nc.publish(forget(KEY.tenant), b"{}")
    await until(lambda: known() == [])
    await only.close()


async def test_equal_keys_go_to_one_replica_until_it_is_full(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    registers = [await replica(core, name, taken) for name in ("one", "two")]
    await until(lambda: len(replicas._alive()) == 2)
    chosen = [replicas.choose(HOT) for _ in range(4)]
    assert len(set(chosen)) == 1
    assert replicas.choose(HOT) not in ("", chosen[0])
    for register in registers:
        await register.close()


async def test_the_turns_of_a_session_go_to_one_replica_of_those_that_a_prefix_has_spread_over(
    core: Core, replicas: Replicas
) -> None:
    """Whether a replica has said that it knows the prefix, or was sent it by this route."""
    taken: list[str] = []
    load = Load()
    load.holds("hot")
    registers = [await replica(core, name, taken, slots=30, load=load) for name in ("one", "two")]
    registers.append(await replica(core, "three", taken, slots=30))
    await until(lambda: len(replicas._alive()) == 3)
    turns = [(session, replicas.choose(HOT, 1, f"session-{session}")) for _ in range(5) for session in range(10)]
    homes = {session: {name for asked, name in turns if asked == session} for session in range(10)}
    assert all(len(names) == 1 for names in homes.values())
    assert {name for _, name in turns} == {"one", "two"}
    await asyncio.sleep(1.2)  # they have spoken again, so what was sent to them is done
    cold = replace(HOT, key="cold")
    owner = replicas.choose(cold, 29)
    assert replicas.choose(cold, 1, "session-0") == owner, "it has spread to nobody"
    second = replicas.choose(cold)
    assert second != owner
    await asyncio.sleep(1.2)  # they have spoken again, and not of this key
    assert {replicas.choose(cold, 1, f"session-{n}") for n in range(20)} == {owner, second}
    for register in registers:
        await register.close()


async def test_what_cannot_be_read_is_no_replica(core: Core, replicas: Replicas) -> None:
    await core.bus.nc.publish(subjects.replica("odd"), b"{")
    taken: list[str] = []
    one = await replica(core, "one", taken)
    await until(lambda: replicas.choose(KEY) == "one")
    assert replicas._alive().keys() == {"one"}
    await one.close()


def test_load_counts_calls_and_keeps_the_newest_prefixes() -> None:
    load = Load()
    with load.of(3), load.of(2):
        assert load.running == 5
    assert load.running == 0
    for key in ("a", "b", "a"):
        load.holds(key)
    assert load.prefixes == ["a", "b"]
    for n in range(2000):
        load.holds(f"{n:08}, and the digits that the register does not show")
    assert load.prefixes[:2] == ["00001999", "00001998"]
    assert len(load.prefixes) == 1024
    assert len(msgspec.json.encode(load.prefixes)) < 12_000, "it is said every second"


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
