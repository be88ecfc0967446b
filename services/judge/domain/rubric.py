"""Rubrics: named, versioned lists of criteria that score a text from 0 to 1."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.judge.domain.readability import grade


class _Criterion(BaseModel):
    """`weight`: its part in the total. `must`: a candidate that scores 0 here is out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    weight: float = Field(gt=0)
    must: bool = False


class _Phrases(_Criterion):
    phrases: list[str] = Field(min_length=1)

    @field_validator("phrases")
    @classmethod
    def _are_expressions(cls, phrases: list[str]) -> list[str]:
        for phrase in phrases:
            try:
                re.compile(phrase)
            except re.error as error:
                raise ValueError(f"{phrase!r} is not a regular expression: {error}") from None
        return phrases

    def _found(self, text: str) -> int:
        return sum(1 for phrase in self.phrases if re.search(phrase, text, re.IGNORECASE))


class RequiredPhrases(_Phrases):
    """All of these (regular expressions, any case) have to stand in the text: the share of those that do."""

    kind: Literal["required"]

    def score(self, text: str) -> float:
        return self._found(text) / len(self.phrases)


class AnyPhrase(_Phrases):
    """One of these has to stand in the text."""

    kind: Literal["any"]

    def score(self, text: str) -> float:
        return 1.0 if self._found(text) else 0.0


class ForbiddenPhrases(_Phrases):
    """None of these may stand in the text."""

    kind: Literal["forbidden"]

    def score(self, text: str) -> float:
        return 0.0 if self._found(text) else 1.0


class Length(_Criterion):
    """Characters: 1 up to `best`, then falling to 0 at `max`; 0 below `min`."""

    kind: Literal["length"]
    min: int = Field(default=1, ge=0)
    best: int = Field(gt=0)
    max: int = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Length":
        if not self.min <= self.best <= self.max:
            raise ValueError(f"expected min <= best <= max, got {self.min}, {self.best}, {self.max}")
        return self

    def score(self, text: str) -> float:
        length = len(text)
        if length < self.min or length > self.max:
            return 0.0
        return 1.0 if length <= self.best else 1 - (length - self.best) / (self.max + 1 - self.best)


class ReadingLevel(_Criterion):
    """Flesch-Kincaid grade: 1 up to `best`, then falling to 0 at `max`."""

    kind: Literal["reading_level"]
    best: float = Field(ge=0)
    max: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "ReadingLevel":
        if self.best >= self.max:
            raise ValueError(f"expected best < max, got {self.best}, {self.max}")
        return self

    def score(self, text: str) -> float:
        over = (grade(text) - self.best) / (self.max - self.best)
        return min(1.0, max(0.0, 1 - over))


class Tone(_Criterion):
    """Half for words that set the tone (`enough` of them make it full), half for the absence of words that spoil it."""

    kind: Literal["tone"]
    good: list[str] = []
    bad: list[str] = []
    enough: int = Field(default=2, ge=1)

    def score(self, text: str) -> float:
        good = sum(1 for word in self.good if _has_word(word, text))
        bad = sum(1 for word in self.bad if _has_word(word, text))
        shouts = bool(re.search(r"!{2,}|\b[A-Z]{4,}\b.*\b[A-Z]{4,}\b", text))
        warmth = min(1.0, good / self.enough) if self.good else 1.0
        return 0.5 * warmth + 0.5 * max(0.0, 1 - 0.5 * (bad + shouts))


Criterion = Annotated[
    RequiredPhrases | AnyPhrase | ForbiddenPhrases | Length | ReadingLevel | Tone, Field(discriminator="kind")
]


class Rubric(BaseModel):
    """A version of a rubric: `rubrics/<name>/<version>.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1)
    criteria: list[Criterion] = Field(min_length=1)

    @model_validator(mode="after")
    def _have_names_of_their_own(self) -> "Rubric":
        names = [criterion.name for criterion in self.criteria]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"criteria need names of their own, {', '.join(twice)} stands there twice")
        return self


class Score(Struct, frozen=True):
    """A text's score: the weighted mean, the score by criterion, and which musts it misses."""

    total: float
    by: dict[str, float]
    misses: list[str]


def score(rubric: Rubric, text: str) -> Score:
    """Score a text; all numbers 0…1."""
    by = {criterion.name: round(criterion.score(text), 4) for criterion in rubric.criteria}
    weight = sum(criterion.weight for criterion in rubric.criteria)
    total = sum(criterion.weight * by[criterion.name] for criterion in rubric.criteria) / weight
    misses = [criterion.name for criterion in rubric.criteria if criterion.must and by[criterion.name] == 0]
    return Score(total=round(total, 4), by=by, misses=misses)


def pick(scores: Sequence[Score]) -> int | None:
    """The best that misses no must, the first of equals; None where each misses one."""
    fit = [n for n, one in enumerate(scores) if not one.misses]
    return max(fit, key=lambda n: (scores[n].total, -n), default=None)


def _has_word(word: str, text: str) -> bool:
    return bool(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))
