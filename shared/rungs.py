"""Which rung of a ladder an answer came from, where several completions or parts had a hand in it."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, get_args

from contracts.item import Rung

_ORDER: tuple[Rung, ...] = get_args(Rung)


class Given(Protocol):
    """An answer, a completion or a part."""

    @property
    def rung(self) -> Rung: ...

    @property
    def why(self) -> str: ...


def lowest(given: Iterable[Given]) -> tuple[Rung, str]:
    """The lowest rung that had a hand in it, and why; the primary where nothing did."""
    worst: tuple[Rung, str] = ("primary", "")
    for one in given:
        if _ORDER.index(one.rung) > _ORDER.index(worst[0]):
            worst = (one.rung, one.why)
    return worst


def below_primary(given: Iterable[Given]) -> dict[str, int]:
    """How many of them came from each rung below the primary."""
    return dict(Counter(one.rung for one in given if one.rung != "primary"))
