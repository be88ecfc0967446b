"""What becomes of the work of replicas that die, and of those that leave in order, on a real NATS server."""

import asyncio
import time

import pytest
from in_process import Core
from register import KEY, MODEL, replica, send, silence, until

from contracts.subjects import REPLICAS
from services.route.adapters.replicas import Replicas

pytestmark = pytest.mark.servers


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


async def test_who_is_waited_for_is_moved_before_batches(core: Core, replicas: Replicas) -> None:
    for n in range(300):
        await send(core, n, "gone", "batch")
    await send(core, 300, "gone")
    others = Replicas(core.bus)
    moved = await asyncio.gather(replicas.move_orphans(), others.move_orphans())  # two routes look after them
    assert sum(moved) >= 301
    first = await core.bus.js.get_msg("WORK", seq=302, next=True, subject="work.generate.>")
    assert first.subject == f"work.generate.{MODEL}.interactive"
    info = await core.bus.js.stream_info("WORK", subjects_filter="work.>")
    assert info.state.subjects == {f"work.generate.{MODEL}.interactive": 1, f"work.generate.{MODEL}.batch": 300}


async def test_a_route_that_stood_still_does_not_take_others_for_dead(core: Core, replicas: Replicas) -> None:
    taken: list[str] = []
    done = asyncio.Event()
    working = await replica(core, "working", taken, at_once=1, until=done)
    for n in range(3):
        await send(core, n, "working")
    await until(lambda: taken == [f"working:{core.tenant}/j1/0"])
    await asyncio.sleep(REPLICAS.ttl_s + 1)  # route knows by now who is alive
    time.sleep(REPLICAS.ttl_s + 1)  # noqa: ASYNC251 - the process stands still
    await asyncio.sleep(1.5)  # it has looked
    info = await core.bus.js.stream_info("WORK", subjects_filter="work.>")
    assert info.state.subjects == {f"work.generate.{MODEL}.interactive.working": 3}
    assert replicas.choose(KEY) == "working"
    done.set()
    await until(lambda: len(taken) == 3)
    await working.close()


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
