"""A model-based test: scatter, arrive, gather and windows, with deaths, repetitions, reorderings and a Redis that
forgets, in whatever order Hypothesis thinks of. And a proof that it would find a chord counter.
"""

import asyncio
import os
from collections.abc import Awaitable, Iterator
from typing import Any, ClassVar, TypeVar
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from in_process import Core, open_core
from servers import NatsServer

from chaos.group_world import BareGroups, MortalGroups, World, clock
from loadtest.chaos.verdict import verdict

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

EXAMPLES = int(os.environ.get("PENSTOCK_TEST_EXAMPLES", "25"))
REPEATABLE = "PENSTOCK_TEST_EXAMPLES" not in os.environ  # who asks for many wants other ones each time

T = TypeVar("T")

LIVES = st.integers(0, 12)
PICKS = st.integers(0, 1000)


class Machine(RuleBasedStateMachine):
    """One job; the rules are what may happen to it. What cannot happen now does nothing: which of several publishes
    dies first differs from run to run, and Hypothesis must not be offered other rules for it."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    core: ClassVar[Core]
    groups: ClassVar[type[MortalGroups]] = MortalGroups

    def do(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(items=st.integers(1, 9), samples=st.sampled_from([0, 0, 2]), windowed=st.booleans())
    def job(self, items: int, samples: int, windowed: bool) -> None:
        self.do(self.core.empty())
        self.world = World(self.core, f"t{uuid4().hex[:8]}", items, samples, windowed, self.groups)

    @rule()
    def submit(self) -> None:
        """Also once more: the acknowledgement of the submission was lost."""
        self.do(self.world.submit())
        self.do(self.world.look())

    @rule(left=LIVES)
    def die_while_opening(self, left: int) -> None:
        self.do(self.world.dying(left, self.world.submit))
        self.do(self.world.look())

    @rule(pick=PICKS, acknowledge=st.sampled_from([True, True, True, False]))
    def work(self, pick: int, acknowledge: bool) -> None:
        if not self.world.hand:
            return
        self.do(self.world.work(self._one(pick), acknowledge))
        self.do(self.world.look())

    @rule(pick=PICKS, left=LIVES)
    def die_at_work(self, pick: int, left: int) -> None:
        if not self.world.hand:
            return
        sequence = self._one(pick)
        self.do(self.world.dying(left, lambda: self.world.work(sequence)))
        self.do(self.world.look())

    @rule(pick=PICKS, left=LIVES)
    def stall_at_work(self, pick: int, left: int) -> None:
        """A worker stands still in the middle of a task, and others get on with it and with everything else."""
        self.wake()
        if not self.world.hand:
            return
        sequence = self._one(pick)
        self.do(self.world.stall(left, lambda: self.world.work(sequence)))
        self.do(self.world.look())

    @rule(left=LIVES)
    def stall_at_an_alarm(self, left: int) -> None:
        self.wake()
        self.do(self.world.stall(left, self.world.alarm))
        self.do(self.world.look())

    @rule()
    def wake(self) -> None:
        """Who stood still goes on."""
        self.do(self.world.wake())
        self.do(self.world.look())

    @rule(pick=PICKS)
    def repeat(self, pick: int) -> None:
        """What was carried out long ago comes again."""
        if not self.world.done:
            return
        self.do(self.world.again(self.world.done[pick % len(self.world.done)]))
        self.do(self.world.look())

    @rule(pick=PICKS)
    def bury(self, pick: int) -> None:
        """A task kills every worker that takes it, until it is given up."""
        tasks = self._buriable()
        if not tasks:
            return
        self.do(self.world.bury(tasks[pick % len(tasks)]))
        self.do(self.world.look())

    @rule(pick=PICKS)
    def redrive(self, pick: int) -> None:
        """A dead letter is sent on its way again."""
        if not self.world.buried:
            return
        self.do(self.world.again(self.world.buried[pick % len(self.world.buried)]))
        self.do(self.world.look())

    @rule()
    def alarm(self) -> None:
        self.do(self.world.alarm())
        self.do(self.world.look())

    @rule(left=LIVES)
    def die_at_an_alarm(self, left: int) -> None:
        self.do(self.world.dying(left, self.world.alarm))
        self.do(self.world.look())

    @rule(left=LIVES)
    def die_at_the_deadline(self, left: int) -> None:
        """What is missing arrives as failed, as far as route gets with it; what comes later is late."""
        self.do(self.world.dying(left, lambda: self.world.alarm(late=True)))
        self.do(self.world.look())

    @rule()
    def redis_writes_to_disk(self) -> None:
        self.do(self.world.remember())

    @rule()
    def redis_forgets(self) -> None:
        self.do(self.world.forget())

    @rule()
    def redis_is_emptied(self) -> None:
        self.world.snapshot = None
        self.do(self.world.forget())

    @rule()
    def route_looks_after_redis(self) -> None:
        self.do(self.world.watch.look())
        self.do(self.world.look())

    @invariant()
    def nothing_is_counted_that_has_not_arrived(self) -> None:
        if not hasattr(self, "world"):
            return
        totals = self.do(self.core.hops.groups.totals(self.world.group))
        results = self.do(self.world.results())
        assert totals.count.arrived <= len({shard.shard for shard in results})
        assert totals.tally.succeeded + totals.tally.failed <= sum(len(shard.items) for shard in results)

    @invariant()
    def no_report_before_all_is_there(self) -> None:
        if not hasattr(self, "world"):
            return
        report = self.do(self.world.report())
        if report is not None:
            self.judge()

    def judge(self) -> None:
        assert verdict(self.world.items, self.do(self.world.found())).faults == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.do(self.world.until_quiet())
        self.judge()
        left = self.do(self.world.parked())
        groups = [key for key in left if not key.endswith("/window")]  # docs/reliability.md, "Known and harmless"
        assert groups == []

    def _buriable(self) -> list[int]:
        """Tasks with items. A join or an opening that is given up waits for its group's alarm or deadline."""
        return [sequence for sequence, data in sorted(self.world.hand.items()) if self.world.has_items(data)]

    def _one(self, pick: int) -> int:
        return sorted(self.world.hand)[pick % len(self.world.hand)]


@pytest.fixture
def machine(nats_server: NatsServer, redis_server: str) -> Iterator[type[Machine]]:
    """On a loop of its own: Hypothesis's rules are not coroutines."""
    loop = asyncio.new_event_loop()
    opened = open_core(nats_server.url, redis_server)
    core = loop.run_until_complete(opened.__aenter__())
    members: dict[str, Any] = {"loop": loop, "core": core}
    with patch("time.time", clock):
        yield type("OnServers", (Machine,), members)
    core.workers.clear()  # none of them was started
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()


def run(machine: type[Machine], examples: int, *, shrink: bool = True) -> None:
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, derandomize=REPEATABLE, database=None,
            phases=phases, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_whatever_happens_to_a_job_each_item_arrives_once(machine: type[Machine]) -> None:
    run(machine, EXAMPLES)


def test_a_chord_counter_would_be_found(machine: type[Machine]) -> None:
    machine.groups = BareGroups
    with pytest.raises(AssertionError):
        run(machine, 25, shrink=False)
