"""Scatter and Decide, as pure functions: which children go which way."""

from collections.abc import Sequence

from msgspec.structs import replace

from contracts.item import Input, Item, Part, Usage
from contracts.job import Options
from contracts.steps import AnyStep, Scatter
from services.route.domain.gate import Expert
from services.route.domain.pattern import Pattern
from shared.outcome import Advance, Child, Outcome, Spread


def scatter(items: Sequence[Item], step: Scatter, shard_size: int) -> Outcome:
    """The children of each item; nothing to spread means to go on."""
    if step.over == "samples":
        children = [[_sample(item, k) for item in items] for k in range(step.n)]
    else:
        parts = [_of_part(item, part) for item in items for part in item.parts]
        children = [parts[start : start + shard_size] for start in range(0, len(parts), shard_size)]
    if not children:
        return Advance(items)
    return Spread(items, [Child(child, step.slip) for child in children], "parts")


def _sample(item: Item, k: int) -> Item:
    return replace(item, part=k, parts=[], usage=Usage())


def _of_part(item: Item, part: Part) -> Item:
    """A child sees its own part as the context, and neither its siblings nor the whole document."""
    document = item.input.document
    given: Input = replace(
        item.input, context=part.text, document=None if document is None else replace(document, text="")
    )
    return replace(item, input=given, part=part.index, parts=[], usage=Usage())


def decide(items: Sequence[Item], pattern: Pattern, options: Options, experts: Sequence[Expert] = ()) -> Outcome:
    """Ask the pattern, item by item. Where all go the same way the shard stays whole; else each way is a child."""
    amended = [pattern.amend(item, options) if pattern.amend else item for item in items]
    ways = [tuple(pattern.ways(item, options, experts)) for item in amended]
    if len(set(map(repr, ways))) <= 1:
        return Advance(amended, ways[0] if ways else ())
    by_way: dict[str, tuple[tuple[AnyStep, ...], list[Item]]] = {}
    for item, way in zip(amended, ways, strict=True):
        by_way.setdefault(repr(way), (way, []))[1].append(item)
    return Spread(amended, [Child(some, way) for way, some in by_way.values()], "items")
