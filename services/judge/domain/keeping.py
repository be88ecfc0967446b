"""Which answers are worth keeping for the next one who asks. Pure."""

from collections.abc import Sequence

from contracts.item import Item
from shared.answers import Kept

MODES = ("generated", "extractive")


def worth_keeping(items: Sequence[Item], now: float) -> list[Kept]:
    """Answers that passed their check, whole, of a model that was meant to give them; `now` in unix seconds."""
    return [kept for item in items if (kept := _kept(item, now)) is not None]


def _kept(item: Item, now: float) -> Kept | None:
    answer, verdict = item.answer, item.verdict
    if item.keep is None or not item.alive or answer is None or verdict is None or not verdict.passed:
        return None
    if answer.rung != "primary" or answer.escalate or answer.tool_calls:
        return None  # it stood in for another and should not outlive the outage, or it is not the answer yet
    if answer.mode not in MODES or answer.finish_reason != "stop" or answer.cached is not None:
        return None
    if item.prompt != item.keep.prompt:
        return None  # it came from the version before, which serves while the one that was asked for is warmed
    return Kept(item.question, answer, item.keep, now, verdict)
