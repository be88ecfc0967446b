"""How many of the interactive slots one model may hold, and when the others come back."""

from contextlib import ExitStack

import pytest

from services.generate_gpu.domain.room import LONGEST_S, Room
from shared.errors import Later


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(room: Room, stack: ExitStack, model: str, *, bounded: bool = True) -> int:
    """As many slots as the model gets."""
    for n in range(1000):
        try:
            stack.enter_context(room.held(model, bounded=bounded))
        except Later:
            return n
    return 1000


def test_a_model_holds_three_quarters_and_the_next_three_quarters_of_the_rest() -> None:
    with ExitStack() as stack:
        room = Room(32)
        assert taken(room, stack, "hangs") == 24
        assert taken(room, stack, "hangs too") == 6
        assert taken(room, stack, "well") == 1
    assert room.most("any") == 24, "all have been given back"


def test_the_only_slot_is_anybodys() -> None:
    with ExitStack() as stack:
        assert taken(Room(1), stack, "only") == 1


def test_what_runs_in_this_process_is_not_bounded_and_counts() -> None:
    with ExitStack() as stack:
        room = Room(8)
        for _ in range(4):
            stack.enter_context(room.held("reader", bounded=False))
        assert taken(room, stack, "large") == 3


def test_a_task_that_failed_gives_its_slot_back() -> None:
    room = Room(4)
    with pytest.raises(ValueError, match="broken"), room.held("large", bounded=True):
        raise ValueError("broken")
    assert room.most("other") == 3


def test_those_that_wait_come_back_one_after_the_other_as_slots_become_free() -> None:
    clock = Clock()
    room = Room(8, clock)
    with ExitStack() as stack:
        with room.held("large", bounded=True):
            clock.now += 3.0
        assert taken(room, stack, "large") == 6
        waits = []
        for _ in range(8):
            with pytest.raises(Later, match="waits for room: 6 tasks of the model 'large' are under way") as caught:
                stack.enter_context(room.held("large", bounded=True))
            waits.append(caught.value.after)
        assert waits[:3] == pytest.approx([1.0, 1.5, LONGEST_S]), "half a second each: three seconds over six slots"
        assert max(waits) == LONGEST_S
        clock.now += 10
        with pytest.raises(Later) as caught:
            stack.enter_context(room.held("large", bounded=True))
        assert caught.value.after == pytest.approx(0.5), "nobody is before it any more"
