"""How many of the interactive slots one model may hold, and when the others come back."""

from contextlib import ExitStack

import pytest

from services.generate_gpu.domain.shares import LONGEST_S, Shares
from shared.errors import Later


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(shares: Shares, stack: ExitStack, model: str, *, bounded: bool = True) -> int:
    """As many slots as the model gets."""
    for n in range(1000):
        try:
            stack.enter_context(shares.held(model, bounded=bounded))
        except Later:
            return n
    return 1000


def test_a_model_holds_three_quarters_and_the_next_three_quarters_of_the_rest() -> None:
    with ExitStack() as stack:
        shares = Shares(32)
        assert taken(shares, stack, "hangs") == 24
        assert taken(shares, stack, "hangs too") == 6
        assert taken(shares, stack, "well") == 1
    assert shares.most("any") == 24, "all have been given back"


def test_the_only_slot_is_anybodys() -> None:
    with ExitStack() as stack:
        assert taken(Shares(1), stack, "only") == 1


def test_what_runs_in_this_process_is_not_bounded_and_counts() -> None:
    with ExitStack() as stack:
        shares = Shares(8)
        for _ in range(4):
            stack.enter_context(shares.held("reader", bounded=False))
        assert taken(shares, stack, "large") == 3


def test_a_task_that_failed_gives_its_slot_back() -> None:
    shares = Shares(4)
    with pytest.raises(ValueError, match="broken"), shares.held("large", bounded=True):
        raise ValueError("broken")
    assert shares.most("other") == 3


def test_those_that_wait_come_back_one_after_the_other_as_slots_become_free() -> None:
    clock = Clock()
    shares = Shares(8, clock)
    with ExitStack() as stack:
        with shares.held("large", bounded=True):
            clock.now += 3.0
        assert taken(shares, stack, "large") == 6
        waits = []
        for _ in range(8):
            with pytest.raises(Later, match="waits for room: 6 tasks of the model 'large' are under way") as caught:
                stack.enter_context(shares.held("large", bounded=True))
            waits.append(caught.value.after)
        assert waits[:3] == pytest.approx([1.0, 1.5, LONGEST_S]), "half a second each: three seconds over six slots"
        assert max(waits) == LONGEST_S
        clock.now += 10
        with pytest.raises(Later) as caught:
            stack.enter_context(shares.held("large", bounded=True))
        assert caught.value.after == pytest.approx(0.5), "nobody is before it any more"
