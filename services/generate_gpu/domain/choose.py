"""Which of the scored sentences make the answer, and in which order they are read."""

import re

from services.generate_gpu.domain.question import Question
from services.generate_gpu.domain.scoring import Scored
from services.generate_gpu.domain.units import Unit
from shared.terms import terms

SENTENCES = 3
FAR = 0.22  # a sentence this much weaker than the best one adds words, not an answer
_EXCEPTION = re.compile(
    r"^(?:however|except|unless|exceptions?|provided that|this (?:does|do) not|notwithstanding|otherwise)\b",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(r"^(?:it|its|they|their|he|she|his|her|this|these|those|such|both)\b", re.IGNORECASE)
_SAME = 0.8
_LIST_CHARS = 900


def choose(question: Question, ranked: list[Scored]) -> list[Unit]:
    """At most three units in reading order, from sentences that are sorted best first and not empty."""
    best = ranked[0]
    picked = _lead(question, best, ranked)
    for scored in ranked[1:]:
        picked += _exceptions(picked)
        if len(picked) >= SENTENCES or scored.score < best.score - FAR:
            break
        if not _is_idle(question, scored, best) and not any(_repeats(scored.unit, unit) for unit in picked):
            picked.append(scored.unit)
    picked += _exceptions(picked)
    return [_with_items(unit, picked) for unit in _reading_order(picked[:SENTENCES])]


def _lead(question: Question, best: Scored, ranked: list[Scored]) -> list[Unit]:
    """The best sentence with what it needs to be understood: the line that opens its list, what its "it" points to."""
    unit = best.unit
    if unit.intro:
        return [unit, unit.intro] if _is_named(question, unit) else [unit.intro]
    before = _what_it_points_to(unit, ranked)
    return [unit, before] if before else [unit]


def _exceptions(picked: list[Unit]) -> list[Unit]:
    """Sentences that restrict one that was picked: to leave them out would mislead."""
    found = []
    for unit in picked:
        following = next((one for one in unit.around if one.place == unit.place + 1), None)
        if following and _EXCEPTION.match(following.text) and following not in picked:
            found.append(following)
    return found


def _is_idle(question: Question, scored: Scored, best: Scored) -> bool:
    """Headings, list items that nobody asked for, and rows beside a row that holds more of what the question names."""
    unit = scored.unit
    lesser_row = unit.is_row and best.unit.is_row and scored.own < best.own - 0.02
    return unit.is_heading or lesser_row or bool(unit.intro and not _is_named(question, unit))


def _is_named(question: Question, item: Unit) -> bool:
    """Whether the question speaks of this item of a list, rather than of the list."""
    return bool(question.terms.keys() & terms(item.text).keys())


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
