"""Passages cut into what can be quoted: sentences, table rows, list items, each with what it stands in."""

import re
from collections.abc import Sequence
from functools import cached_property

from contracts.item import Passage, Quote
from services.generate_gpu.domain.identifiers import identifiers
from services.generate_gpu.domain.question import pairs
from shared.terms import terms
from shared.text import sentences

_ITEM = re.compile(r"^(?:[-*•–—▪◦‣·]|\(?[a-zA-Z]\)|\(?[ivxIVX]{1,5}\)|\d{1,2}[.)])\s")
_ROW = re.compile(r"^[^:;|]{1,60}: [^;]+;|\|")
_ENDS = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
_HEADING_WORDS = 14
WINDOW = 2  # sentences to either side that belong to what a sentence says


class Unit:
    """A sentence of a passage, with what the scores need to know about it."""

    def __init__(self, passage: Passage, place: int, text: str) -> None:
        self.passage = passage
        self.place = place  # in the passage
        self.text = text
        self.intro: Unit | None = None  # of a list item: the line that ends with a colon
        self.items: list[Unit] = []  # of such a line: what it opens
        self.around: list[Unit] = []  # itself and up to WINDOW neighbours on either side

    @cached_property
    def terms(self) -> dict[str, float]:
        own = terms(self.text)
        return {**self.intro.terms, **own} if self.intro else own

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        return pairs(self.text)

    @cached_property
    def head_terms(self) -> dict[str, float]:
        return terms(f"{self.passage.title} {self.passage.section}")

    @cached_property
    def context(self) -> frozenset[str]:
        """Terms of the sentence, its neighbours and the headings it stands under."""
        near = frozenset(term for unit in self.around for term in unit.terms)
        return near | frozenset(self.head_terms)

    @cached_property
    def codes(self) -> frozenset[str]:
        return identifiers(self.text)

    @cached_property
    def head_codes(self) -> frozenset[str]:
        return identifiers(f"{self.passage.title} {self.passage.section} {self.passage.document}")

    @property
    def is_row(self) -> bool:
        return bool(_ROW.search(self.text))

    @property
    def is_intro(self) -> bool:
        return self.text.endswith(":")

    @property
    def is_heading(self) -> bool:
        """A line that names what follows and says nothing itself."""
        if self.intro or self.is_row or _ITEM.match(self.text) or ": " in self.text or _ENDS.search(self.text):
            return False
        digits = re.search(r"\d", re.sub(r"^[#\d.\s]+", "", self.text))
        return len(self.text.split()) <= _HEADING_WORDS and not digits

    def quote(self) -> Quote:
        return self.passage.quote(self.text)


def cut(passage: Passage) -> list[Unit]:
    """The units of a passage, in their order."""
    units = [Unit(passage, place, text) for place, text in enumerate(sentences(passage.text))]
    intro: Unit | None = None
    for unit in units:
        unit.intro = intro if intro and _belongs(unit, intro) else None
        if unit.intro:
            unit.intro.items.append(unit)
        intro = unit if unit.is_intro else unit.intro
    for unit in units:
        unit.around = units[max(0, unit.place - WINDOW) : unit.place + WINDOW + 1]
    return units


def cut_all(passages: Sequence[Passage]) -> list[Unit]:
    """The units of all passages; a sentence that an overlapping chunk repeats is taken once, where it came first."""
    seen: set[tuple[str, str]] = set()
    units = []
    for passage in passages:
        for unit in cut(passage):
            key = (passage.document, unit.text)
            if key not in seen:
                seen.add(key)
                units.append(unit)
    return units


def _belongs(unit: Unit, intro: Unit) -> bool:
    """Whether a line is an item of the list that `intro` opens."""
    follows_at_once = unit.place == intro.place + 1
    return (
        bool(_ITEM.match(unit.text))
        or unit.text.endswith((";", "; and", "; or"))
        or (follows_at_once and not unit.is_intro)
    )
