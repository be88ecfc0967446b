"""Replicas that join: which beginnings they are warmed with, and how long they are passed over."""

import pytest

from contracts.events import Replica, shown
from contracts.item import Message
from services.route.domain import newcomers as limits
from services.route.domain.newcomers import AGAIN_S, LONGEST_S, MOST, Hottest, Newcomers
from services.route.domain.prefix import Beginning
from services.route.domain.replicas import Candidate, preference

OLD = Replica("old", ["house"])
KEYS = [f"key-{n}" for n in range(100)]
MOVING = [key for key in KEYS if preference(key, [Candidate("old"), Candidate("new")])[0].name == "new"]


def beginning(key: str, model: str = "house", text: str = "You answer.") -> Beginning:
    return Beginning("acme", model, "policy@1", key, (Message("system", text),))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Newcomers:
    """What a route knows that has rendered a hundred beginnings; the first ones were asked for most."""
    found = Newcomers(clock)
    found.heard(OLD, [])
    for n, key in enumerate(KEYS):
        found.asked(beginning(key), 1000 - n)
    return found


def test_a_newcomer_is_told_the_hottest_of_those_that_move_to_it_and_no_others(known: Newcomers) -> None:
    assert len(MOVING) > MOST
    known.heard(Replica("new", ["house"]), [OLD])
    told = known.due()
    assert {name for name, _ in told} == {"new"}
    assert [one.key for _, one in told] == MOVING[:MOST]
    assert [key for key in KEYS if known.withheld(key)] == MOVING[:MOST]


def test_it_is_chosen_for_what_it_says_that_it_holds(known: Newcomers) -> None:
    known.heard(Replica("new", ["house"], prefixes=MOVING[:1]), [OLD])
    assert not known.withheld(MOVING[0]), "it held that from the start"
    known.heard(Replica("new", ["house"], prefixes=MOVING[1:3]), [OLD])
    assert not known.withheld(MOVING[1])
    assert known.withheld(MOVING[3]) == {"new"}


def test_keys_are_longer_than_what_the_register_shows_of_them(clock: Clock) -> None:
    known = Newcomers(clock)
    known.heard(OLD, [])
    key = "9f86d081884c7d659a2feaa0"
    known.asked(beginning(key), 1)
    known.heard(Replica("new", ["house"]), [])
    assert known.withheld(key) == {"new"}
    known.heard(Replica("new", ["house"], prefixes=[shown(key)]), [])
    assert not known.withheld(key)
    known.heard(Replica("newer", ["house"], prefixes=[shown(key)]), [])
    assert not known.withheld(key)


def test_what_it_is_silent_about_is_told_again(known: Newcomers, clock: Clock) -> None:
    known.heard(Replica("new", ["house"]), [OLD])
    assert len(known.due()) == MOST
    assert known.due() == []
    clock.now += AGAIN_S - 1
    known.heard(Replica("new", ["house"], prefixes=MOVING[:1]), [OLD])
    clock.now += 2
    assert known.due() == [], "it is at work"
    clock.now += AGAIN_S
    assert len(known.due()) == MOST - 1


def test_after_a_minute_it_is_chosen_all_the_same(known: Newcomers, clock: Clock) -> None:
    known.heard(Replica("new", ["house"]), [OLD])
    clock.now += LONGEST_S
    assert known.due() == []
    assert not any(known.withheld(key) for key in KEYS)


def test_one_that_was_silent_for_a_while_has_kept_its_cache(known: Newcomers) -> None:
    known.heard(Replica("new", ["house"]), [OLD])
    known.heard(OLD, [Replica("new", ["house"])])
    assert {name for key in KEYS for name in known.withheld(key)} == {"new"}


def test_one_that_leaves_is_waited_for_no_more(known: Newcomers) -> None:
    known.heard(Replica("new", ["house"]), [OLD])
    known.left("new")
    assert known.due() == []


def test_the_only_replica_is_warmed_with_all_that_is_hot(clock: Clock) -> None:
    """It has been started again, and there is nobody else whom questions could go to meanwhile."""
    known = Newcomers(clock)
    for key in KEYS[:5]:
        known.asked(beginning(key), 1)
    known.asked(beginning("else", model="another"), 1)
    known.heard(Replica("new", ["house"]), [])
    assert {one.key for _, one in known.due()} == set(KEYS[:5])


def test_of_an_erased_tenant_nothing_is_told_any_more(known: Newcomers) -> None:
    other = Beginning("other", "house", "policy@1", MOVING[0] + "other", (Message("system", "You answer."),))
    known.asked(other, 1)
    known.heard(Replica("new", ["house"]), [OLD])
    known.erased("acme")
    assert known.due() == []
    assert not any(known.withheld(key) for key in KEYS)
    assert known.hottest.of(["house"], 1000.0) == [other]


def test_without_anything_hot_there_is_nothing_to_tell(clock: Clock) -> None:
    known = Newcomers(clock)
    known.heard(Replica("new", ["house"]), [OLD])
    assert known.due() == []


def test_heat_fades_and_what_nobody_asks_for_is_forgotten() -> None:
    hottest = Hottest()
    hottest.asked(beginning("then"), 100, 0.0)
    hottest.asked(beginning("now"), 10, 3000.0)
    assert [one.key for one in hottest.of(["house"], 3000.0)] == ["now", "then"], "five times halved"
    hottest.forget(3601.0)
    assert [one.key for one in hottest.of(["house"], 3601.0)] == ["now"]


def test_memory_is_bounded_in_number_and_in_size() -> None:
    hottest = Hottest()
    hottest.asked(beginning("hot"), 1000, 0.0)
    for n in range(2000):
        hottest.asked(beginning(f"many-{n}"), 1, float(n))
    assert limits._KEPT * 0.8 < len(hottest.of(["house"], 2000.0)) <= limits._KEPT
    for n in range(20):
        hottest.asked(beginning(f"large-{n}", text="x" * (1 << 20)), 5, 2000.0)
    left = hottest.of(["house"], 2000.0)
    assert sum(one.size for one in left) <= limits._KEPT_CHARACTERS
    assert left[0].key == "hot"
