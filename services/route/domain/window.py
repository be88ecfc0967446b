"""Fitting a prompt into a model's window.

Left out, in this order, until it fits: the lowest-ranked passages (one stays), the oldest turns of the session, and
then the longest parts are cut to the same length. Tokens are counted with our own tokenizer; other models' counts
differ, hence the margin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from contracts.item import Item, Message, Part
from shared.errors import ItemError
from shared.text import count_tokens

MARGIN = 1.1
_PER_MESSAGE = 6  # tokens that chat templates put around a message
_SMALLEST_PART = 200  # characters


@dataclass(frozen=True)
class Window:
    """How many tokens there are for the prompt, and how an item becomes one."""

    tokens: int
    compose: Callable[[Item], list[Message]]

    def excess(self, messages: Sequence[Message]) -> int:
        """Tokens over what fits; 0 or less where it fits."""
        if sum(len(message.said) + _PER_MESSAGE for message in messages) * MARGIN <= self.tokens:
            return 0  # no token is shorter than a character
        return tokens_of(messages) - self.tokens


def tokens_of(messages: Sequence[Message]) -> int:
    """An upper estimate of a prompt's tokens."""
    counts = count_tokens([message.said for message in messages])
    return int((sum(counts) + _PER_MESSAGE * len(messages)) * MARGIN)


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits: the item with what the model will see, its messages, and how many passages, turns and parts
    were left out or cut."""

    item: Item
    messages: list[Message]
    left_out: int


def fitted(item: Item, window: Window) -> Fitted:
    """The most of an item that fits. Raises ItemError `too_large` where even the least does not."""
    whole, messages = item, window.compose(item)
    excess = window.excess(messages)
    for shorten in (_fewer_passages, _fewer_turns, _shorter_parts):
        while excess > 0 and (shorter := shorten(item, excess)) is not None:
            item, messages = shorter, window.compose(shorter)
            excess = window.excess(messages)
    if excess > 0:
        needed = window.tokens + excess
        raise ItemError("too_large", f"the prompt has about {needed} tokens, the model takes {max(window.tokens, 0)}")
    return Fitted(item, messages, _missing(whole, item))


def _missing(whole: Item, shown: Item) -> int:
    cut = sum(before.text != after.text for before, after in zip(whole.parts, shown.parts, strict=True))
    return len(whole.passages) - len(shown.passages) + len(whole.history) - len(shown.history) + cut


def _fewer_passages(item: Item, excess: int) -> Item | None:
    sizes = count_tokens([passage.text for passage in item.passages])
    drop = _enough(sizes[:0:-1], excess)
    return replace(item, passages=item.passages[: len(sizes) - drop]) if drop else None


def _fewer_turns(item: Item, excess: int) -> Item | None:
    drop = _enough(count_tokens([turn.said for turn in item.history]), excess)
    while drop and any(turn.role == "tool" or turn.tool_calls for turn in item.history[drop : drop + 1]):
        drop += 1  # calls and their results go with the question that led to them
    return replace(item, history=item.history[drop:]) if drop else None


def _enough(sizes: Sequence[int], excess: int) -> int:
    """How many of the first to drop, so that at least `excess` tokens go."""
    dropped = gone = 0
    while gone < excess and dropped < len(sizes):
        gone += int(sizes[dropped] * MARGIN)
        dropped += 1
    return dropped


def _shorter_parts(item: Item, excess: int) -> Item | None:
    """Cut the longest parts to one length."""
    lengths = [len(part.text) for part in item.parts]
    total = sum(lengths)
    tokens = sum(count_tokens([part.text for part in item.parts])) * MARGIN
    if not total or tokens <= excess:
        return None
    limit = _level(lengths, int(total * (1 - excess / tokens) * 0.98))
    if not _SMALLEST_PART <= limit < max(lengths):
        return None
    return replace(item, parts=[_cut(part, limit) for part in item.parts])


def _level(lengths: Sequence[int], room: int) -> int:
    """The length to which the longer ones are cut so that together they take `room`."""
    left = sorted(lengths)
    while left and left[0] * len(left) <= room:
        room -= left.pop(0)
    return room // len(left) if left else max(lengths)


def _cut(part: Part, limit: int) -> Part:
    return part if len(part.text) <= limit else replace(part, text=f"{part.text[: limit - 2].rstrip()} …")
