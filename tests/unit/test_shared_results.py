"""Pauses, schedules, headers, and the living among the items of a task."""

import calendar
import time

from contracts.item import Failure, Input, Item
from contracts.task import Task
from shared.bus import at
from shared.delivery import backoff
from shared.hops import shard_header, task_from_header
from shared.results import fail, fail_expired, merge_back


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [backoff(attempt) for attempt in (1, 2, 3, 4, 6, 7, 100)] == [0.5, 1.0, 2.0, 4.0, 16.0, 30.0, 30.0]


def test_a_schedule_is_due_at_its_moment_or_less_than_a_second_later() -> None:
    for when in (1_700_000_000.0, 1_700_000_000.001, 1_700_000_000.999):
        due = calendar.timegm(time.strptime(at(when), "@at %Y-%m-%dT%H:%M:%SZ"))
        assert 0 < due - when <= 1


def test_a_header_tells_enough_to_fail_the_items_of_a_task() -> None:
    task = Task("t/j/0/3/1", "t", "j", "p", [Item(n=4), Item(n=9)], [], "t/j/0/3", 1)
    failure = Failure("internal", "cannot be read", "judge")
    found = task_from_header(shard_header(task), Item(n=0, failure=failure))
    assert found is not None
    assert (found.id, found.tenant, found.job, found.group, found.index) == ("t/j/0/3/1", "t", "j", "t/j/0/3", 1)
    assert found.items == [Item(n=4, failure=failure), Item(n=9, failure=failure)]


def test_a_header_that_is_not_ours_tells_nothing() -> None:
    for header in ("", "x", "t/j 0", "t/j x 1", "t 0 1", "t/j 0 one", "t/j 0 "):
        assert task_from_header(header, Item(n=0)) is None


def test_the_living_fail_the_dead_keep_their_reason() -> None:
    first = Failure("malformed", "x", "route")
    items = fail([Item(n=0), Item(n=1, failure=first)], "cancelled", "by the user", "judge")
    assert [item.failure for item in items] == [Failure("cancelled", "by the user", "judge"), first]


def test_only_items_past_their_own_deadline_fail() -> None:
    items = [Item(n=0), Item(n=1, deadline=10.0), Item(n=2, deadline=11.0)]
    assert [item.alive for item in fail_expired(items, 10.0, "judge")] == [True, False, True]
    assert fail_expired(items, 9.9, "judge") == items


def test_handled_items_go_back_to_the_places_of_the_living() -> None:
    dead = Item(n=1, failure=Failure("malformed", "x"))
    handled = [Item(n=0, input=Input(id="a")), Item(n=2, input=Input(id="c"))]
    assert merge_back([Item(n=0), dead, Item(n=2)], handled) == [handled[0], dead, handled[1]]
