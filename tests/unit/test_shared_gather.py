"""Children that will not come back, and how what came back is put together."""

import msgspec

from contracts.item import Answer, Completion, Failure, Input, Item, Part, Passage, Usage
from contracts.steps import Rerank
from contracts.task import Arrival, Parked, Task
from shared.gather import LOST, lost_child, merged

GONE = Failure("deadline_exceeded", "too late", "route")
COST = Usage(10, 0, 2, calls=1)


def item(n: int, **known: object) -> Item:
    return msgspec.structs.replace(Item(n=n, input=Input(question=f"q{n}", id=f"id{n}"), usage=COST), **known)


def parked(merge: str, children: list[list[tuple[int, int]]], items: list[Item]) -> Parked:
    parent = Task("t/j/0", "t", "j", "p", items, [Rerank()], "t/j", 0, reply="asker", hop=4)
    return msgspec.structs.replace(Parked(parent, len(children), children=children), merge=merge)


def test_a_lost_shard_of_a_job_has_the_numbers_of_its_items() -> None:
    job = Parked(Task("t/j", "t", "j", "p", [], [], "t/j", 0), 3, "report", items=7, shard_size=3)
    assert [[(i.n, i.failure) for i in lost_child(job, "t/j", k, GONE).items] for k in (0, 2)] == [
        [(0, GONE), (1, GONE), (2, GONE)],
        [(6, GONE)],
    ]
    assert lost_child(job, "t/j", 2, GONE).id == "t/j/2"


def test_a_lost_part_keeps_its_place_and_costs_nothing() -> None:
    waiting = parked("parts", [[(0, 0), (0, 1)], [(0, 2), (1, 0)]], [item(0), item(1)])
    lost = lost_child(waiting, "t/j/0/3", 1, GONE)
    assert lost.items == [Item(n=0, part=2, failure=GONE), Item(n=1, part=0, failure=GONE)]
    assert (lost.id, lost.group, lost.index, lost.steps) == ("t/j/0/3/1", "t/j/0/3", 1, [])


def test_a_lost_branch_fails_its_own_items_alone_and_they_keep_what_they_know() -> None:
    waiting = parked("items", [[(0, 0)], [(1, 0)]], [item(0), item(1, passages=[Passage("c", "d", "t", "x")])])
    lost = lost_child(waiting, "t/j/0/3", 1, GONE)
    assert lost.items == [msgspec.structs.replace(waiting.task.items[1], failure=GONE)]
    done = item(0, answer=Answer("yes"))
    brought = [Arrival(lost.group, 0, [done], 1.5), Arrival(lost.group, 1, lost.items, 0.25)]
    assert merged(waiting, brought).items == [done, lost.items[0]]
    assert merged(waiting, brought).spent_s == 1.75


def test_a_child_that_an_older_writer_parked_has_no_items() -> None:
    assert lost_child(parked("parts", [], [item(0)]), "t/j/0/3", 0, GONE).items == []


def test_parts_stand_in_order_with_texts_data_and_failures() -> None:
    waiting = parked("parts", [[(0, 2)], [(0, 0)], [(0, 1)]], [item(0)])
    children = [
        item(0, part=2, answer=Answer("c", data={"x": 1})),
        item(0, part=0, failure=GONE),
        item(0, part=1, completions=[Completion("no answer made of it", "m")]),
    ]
    brought = [Arrival("t/j/0/3", index, [child]) for index, child in enumerate(children)]
    (joined,) = merged(waiting, brought).items
    assert joined.parts == [Part(0, failure=GONE), Part(1, failure=LOST), Part(2, "c", data={"x": 1})]
    assert joined.usage.calls == 4


def test_items_that_were_dead_before_the_scatter_stay_as_they_are() -> None:
    dead = item(0, failure=GONE)
    assert merged(parked("items", [], [dead, item(1)]), []).items == [
        dead,
        item(1, failure=LOST),
    ]
