"""Where the turns of a session go once a prefix has spread over several replicas."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from contracts.item import Input, Item
from contracts.job import Options
from contracts.steps import AnyStep, Generate, Render
from contracts.task import Task
from services.route.domain.prefix import Beginning
from services.route.domain.prompts import load_prompts
from services.route.domain.replicas import Candidate, Keys, pick, preference
from services.route.handlers import render
from shared.models import Catalogue, Model
from shared.outcome import Advance

names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
loads = st.lists(st.integers(0, 50), min_size=8, max_size=8)


def serving(*loads: int, slots: int = 8, cold: int = 1) -> list[Candidate]:
    """Replicas that serve a key, in its own order, and some that do not."""
    ranked = preference("hot", [Candidate(f"generate-{n}", 0, slots) for n in range(len(loads) + cold)])
    busy = [Candidate(one.name, load, slots, serves=True) for one, load in zip(ranked, loads, strict=False)]
    return busy + ranked[len(loads) :]


SESSIONS = [f"session-{n}" for n in range(10)]


def test_the_turns_of_a_session_stay_on_one_replica_and_sessions_spread_over_those_that_serve_the_key() -> None:
    """Under load: others come and go, so that the replica which owns the key is full at every other turn."""
    dice = random.Random(7)
    homes: dict[str, set[str]] = {session: set() for session in SESSIONS}
    spread = Counter[str]()
    for _ in range(5):
        for session in SESSIONS:
            found = pick("hot", serving(*(dice.randrange(8) for _ in range(3))), session)
            assert found is not None
            homes[session].add(found.name)
            spread[found.name] += 1
    assert {len(names) for names in homes.values()} == {1}
    assert len(spread) == 3
    assert max(spread.values()) <= 25, "not all on one"


def test_without_a_session_and_before_a_key_has_spread_its_own_order_decides() -> None:
    three = serving(7, 0, 0)
    assert pick("hot", three) == three[0]
    only = serving(7)
    assert {pick("hot", only, session) for session in SESSIONS} == {only[0]}


def test_a_session_whose_replica_is_full_goes_to_another_that_serves_the_key_and_only_then_to_a_cold_one() -> None:
    for session in SESSIONS:
        three = serving(0, 0, 0)
        home = pick("hot", three, session)
        full = [replace(one, load=8) if one == home else one for one in three]
        other = pick("hot", full, session)
        assert other is not None
        assert other != home
        assert other.serves
        assert pick("hot", serving(8, 8, 8), session) == serving(8, 8, 8)[3]


@given(names, loads, st.lists(st.booleans(), min_size=8, max_size=8), st.integers(1, 16))
def test_a_session_is_no_reason_to_overload_a_replica(
    some: list[str], busy: list[int], warm: list[bool], slots: int
) -> None:
    candidates = [Candidate(name, load, slots, serves) for name, load, serves in zip(some, busy, warm, strict=False)]
    found = pick("key", candidates, "session")
    assert found is not None
    mean = (sum(candidate.load for candidate in candidates) + 1) / len(candidates)
    assert found.load < slots or found.load < 1.25 * mean + 1


def test_the_newest_keys_are_kept() -> None:
    keys = Keys()
    for n in range(2000):
        keys.add("first")
        keys.add(str(n))
    assert "first" in keys
    assert "1999" in keys
    assert "5" not in keys


async def test_route_asks_for_the_session_of_the_task() -> None:
    asked: list[tuple[int, str]] = []

    def choose(beginning: Beginning, calls: int, session: str, /) -> str:
        asked.append((calls, session))
        return "one"

    items = [Item(n=n, input=Input("How many?")) for n in range(2)]
    steps: list[AnyStep] = [Render("direct"), Generate()]
    task = Task("t", "acme", "j1", "direct", items, steps, group="acme/j1", index=0, options=Options(session="desk-7"))
    catalogue = Catalogue(models=(Model(name="house", engine="extractive", default=True),))
    outcome = await render(task, Render("direct"), load_prompts(), catalogue, choose)
    assert asked == [(2, "desk-7")]
    (step,) = outcome.steps if isinstance(outcome, Advance) else ()
    assert isinstance(step, Generate)
    assert step.replica == "one"
