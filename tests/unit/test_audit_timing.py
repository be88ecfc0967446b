"""Time to first token in the audit log: from the job's submission, over the items that have one."""

from msgspec.structs import replace

from contracts.item import Completion, Failure, Item, Timing
from contracts.task import Task
from shared.audit import by_model, firsts, phases

TASK = Task(
    id="a/j/0", tenant="a", job="j", pattern="rag", items=[], steps=[], group="a/j", index=0, submitted_at=100.0
)


def item(n: int, first_at: float) -> Item:
    return Item(n=n, completions=[Completion("yes", "m", timing=Timing(first_at=first_at))])


def test_it_is_counted_from_the_submission_and_not_from_the_engine() -> None:
    assert firsts(TASK, [item(0, 100.25), item(1, 101.0)]) == [250.0, 1000.0]


def test_what_is_not_known_or_failed_does_not_count() -> None:
    dead = replace(item(2, 101.0), failure=Failure("upstream", "away"))
    assert firsts(TASK, [item(0, 0.0), Item(n=1), dead]) == []
    assert firsts(replace(TASK, submitted_at=0.0), [item(0, 101.0)]) == []


def test_clocks_that_differ_give_no_negative_time() -> None:
    assert firsts(TASK, [item(0, 99.9)]) == [0.0]


def test_what_a_step_used_counts_for_the_model_that_answered() -> None:
    before = [Item(n=n) for n in range(3)]
    after = [
        Item(n=0, completions=[Completion("x", "large")]),
        Item(n=1, completions=[Completion("x", "spare", rung="backup")]),
        Item(n=2, failure=Failure("upstream", "no")),
    ]
    found = by_model("large", before, after)
    assert [(name, [item.n for item in was], [item.n for item in now]) for name, was, now in found] == [
        ("large", [0, 2], [0, 2]),
        ("spare", [1], [1]),
    ]
    assert [name for name, _, _ in by_model("", before, after)] == [""], "a step that asks no model"


def test_what_a_call_spent_where_is_told_where_the_engine_says_so() -> None:
    told = Timing(first_at=101.0, queue_ms=1.0, prefill_ms=40.0, decode_ms=200.0)
    items = [Item(n=0, completions=[Completion("yes", "m", timing=told)]), item(1, 101.0), Item(n=2)]
    assert phases(items) == [("queue", 1.0), ("prefill", 40.0), ("decode", 200.0)]
