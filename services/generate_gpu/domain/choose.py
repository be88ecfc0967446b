"""Which of the scored sentences make the answer, and in which order they are read."""

import re

from services.generate_gpu.domain.scoring import Scored
from services.generate_gpu.domain.units import Unit

SENTENCES = 3
FAR = 0.22  # a sentence this much weaker than the best one adds words, not an answer
_EXCEPTION = re.compile(
    r"^(?:however|except|unless|but|exceptions?|provided|only|this (?:does|do) not|nevertheless|notwithstanding|"
    r"otherwise)\b",
    re.IGNORECASE,
)
_EXCEPTION_BONUS = 0.15
_POINTS_BACK = re.compile(r"^(?:it|its|they|their|he|she|his|her|this|these|those|such|both)\b", re.IGNORECASE)
_SAME = 0.8
_LIST_CHARS = 900


def choose(ranked: list[Scored]) -> list[Unit]:
    """At most three units in reading order, from sentences that are sorted best first and not empty."""
    best = ranked[0]
    picked = [best.unit]
    if best.unit.intro:
        picked.append(best.unit.intro)
    before = _what_it_points_to(best.unit, ranked)
    if before:
        picked.append(before)
    for scored in sorted(ranked[1:], key=lambda s: -_standing(s, best.unit)):
        if len(picked) >= SENTENCES:
            break
        near = _standing(scored, best.unit) >= best.score - FAR
        if near and not scored.unit.is_heading and not any(_repeats(scored.unit, unit) for unit in picked):
            picked.append(scored.unit)
    return [_with_items(unit, picked) for unit in _reading_order(picked)]


def _standing(scored: Scored, best: Unit) -> float:
    """The score; an exception right after the best sentence counts for more, since leaving it out would mislead."""
    follows = scored.unit.passage is best.passage and scored.unit.place == best.place + 1
    return scored.score + (_EXCEPTION_BONUS if follows and _EXCEPTION.match(scored.unit.text) else 0.0)


def _what_it_points_to(unit: Unit, ranked: list[Scored]) -> Unit | None:
    """The sentence before one that begins with "It" or "They", where that one is also near the question."""
    if not _POINTS_BACK.match(unit.text):
        return None
    return next(
        (s.unit for s in ranked if s.unit.passage is unit.passage and s.unit.place == unit.place - 1),
        None,
    )


def _repeats(unit: Unit, other: Unit) -> bool:
    """Whether two sentences say the same in nearly the same words."""
    mine, theirs = unit.terms.keys(), other.terms.keys()
    return unit is other or len(mine & theirs) >= _SAME * max(1, len(mine | theirs))


def _reading_order(picked: list[Unit]) -> list[Unit]:
    """The best passage first; within a document in its own order."""
    documents = list(dict.fromkeys(unit.passage.document for unit in picked))
    return sorted(picked, key=lambda u: (documents.index(u.passage.document), _ordinal(u), u.place))


def _ordinal(unit: Unit) -> int:
    tail = unit.passage.chunk.rpartition("#")[2]
    return int(tail) if tail.isdigit() else 0


def _with_items(unit: Unit, picked: list[Unit]) -> Unit:
    """A line that opens a list is quoted with its items, unless the list is long or one of them was picked."""
    text = "\n".join([unit.text, *(item.text for item in unit.items)])
    if not unit.items or len(text) > _LIST_CHARS or any(item in picked for item in unit.items):
        return unit
    return Unit(unit.passage, unit.place, text)
