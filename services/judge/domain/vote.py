"""Element-wise majority of samples (self-consistency: Wang et al. 2022, "Self-Consistency Improves Chain of Thought").

A list keeps each element that more than half of the valid samples have; anything else goes to the value that most
samples have. Ties go to what appeared first, then to the alphabetical order. Elements are compared without regard to
case and white space, numbers by their value; the result has the spelling that came first.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

import msgspec
from msgspec import Struct

from services.judge.domain.samples import Data, Sample
from shared.errors import ItemError

_NUMBER = re.compile(r"^[$€£]?\s*(-?\d[\d,]*(?:\.\d+)?)\s*\.?$")


class Ballot(Struct, frozen=True):
    """What one valid sample votes for."""

    sample: Sample
    value: object


class Outcome(Struct, frozen=True):
    """The vote's result. `agreement` 0…1, `shares` by element or value, `lost` names what the majority did not keep."""

    value: object
    agreement: float
    shares: dict[str, float]
    lost: list[str]
    decided: bool
    sample: Sample  # the valid sample that is nearest to the result


def take(drawn: Sequence[Sample], key: str) -> tuple[Outcome, list[str]]:
    """The vote over the valid samples, and the reasons why the others were left out.

    Raises ItemError where fewer than half of the samples are valid: that is no majority of anything.
    """
    ballots: list[Ballot] = []
    left_out: list[str] = []
    for sample in drawn:
        try:
            ballots.append(Ballot(sample, _value(sample, key)))
        except ValueError as error:
            left_out.append(f"sample {sample.index}: {error}")
    if not ballots or 2 * len(ballots) < len(drawn):
        failures = [sample.failure for sample in drawn if sample.failure]
        code = failures[0].code if 2 * len(failures) > len(drawn) else "invalid_output"
        why = f": {'; '.join(left_out[:3])}" if left_out else ""
        raise ItemError(code, f"vote: only {len(ballots)} of {len(drawn)} samples are valid{why}")
    return _count(ballots), left_out


def _value(sample: Sample, key: str) -> object:
    """What a sample votes for; ValueError says why it has no vote."""
    if sample.failure is not None:
        raise ValueError(sample.failure.reason)
    if not key:
        return sample.data if sample.data is not None else _text(sample)
    if not isinstance(sample.data, dict):
        raise ValueError(f"expected a JSON object with the field `{key}`, got {sample.text[:40]!r}")
    if sample.data.get(key) is None:
        raise ValueError(f"the field `{key}` is missing")
    return sample.data[key]


def _text(sample: Sample) -> str:
    if not sample.text.strip():
        raise ValueError("it is empty")
    return sample.text.strip()


def _count(ballots: list[Ballot]) -> Outcome:
    if all(isinstance(ballot.value, list) for ballot in ballots):
        return _elements(ballots)
    return _values(ballots)


def _elements(ballots: list[Ballot]) -> Outcome:
    """A list of what more than half of the lists have, most votes first."""
    spelling: dict[str, object] = {}
    places: dict[str, int] = {}
    votes: dict[str, int] = {}
    sets = []
    for ballot in ballots:
        elements = ballot.value if isinstance(ballot.value, list) else []
        own = dict(reversed([(normal(element), element) for element in elements]))
        for normalised, element in reversed(own.items()):
            votes[normalised] = votes.get(normalised, 0) + 1
            spelling.setdefault(normalised, element)
            places.setdefault(normalised, len(places))
        sets.append(frozenset(own))
    order = sorted(votes, key=lambda e: (-votes[e], places[e], e))
    kept = [element for element in order if 2 * votes[element] > len(ballots)]
    overlaps = [_jaccard(own, frozenset(kept)) for own in sets]
    return Outcome(
        value=[spelling[element] for element in kept],
        agreement=float(sum(overlaps) / len(overlaps)),
        shares={_label(spelling[e]): round(votes[e] / len(ballots), 4) for e in order},
        lost=[_label(spelling[e]) for e in order if e not in kept],
        decided=bool(kept) or not votes,
        sample=ballots[max(range(len(ballots)), key=lambda n: (overlaps[n], -n))].sample,
    )


def _values(ballots: list[Ballot]) -> Outcome:
    """The value that most ballots have."""
    votes: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        votes.setdefault(normal(ballot.value), []).append(ballot)
    places = list(votes)
    order = sorted(votes, key=lambda value: (-len(votes[value]), places.index(value), value))
    winner = votes[order[0]]
    return Outcome(
        value=winner[0].value,
        agreement=len(winner) / len(ballots),
        shares={_label(votes[v][0].value): round(len(votes[v]) / len(ballots), 4) for v in order},
        lost=[_label(votes[v][0].value) for v in order[1:]],
        decided=2 * len(winner) > len(ballots),
        sample=winner[0].sample,
    )


def normal(value: object) -> str:
    """Equal for values that mean the same: "I10 " and "i10", "$1,000" and 1000."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, order="deterministic").decode().lower()
    text = " ".join(str(value).split()).lower()
    number = _NUMBER.match(text)
    if number:
        return str(Fraction(number.group(1).replace(",", "")))
    return text.rstrip(".!")


def with_result(outcome: Outcome, key: str) -> Data | None:
    """The JSON to give: the sample that is nearest to the result, with the voted field in place of its own."""
    if key and isinstance(outcome.sample.data, dict):
        return {**outcome.sample.data, key: outcome.value}
    return outcome.value if isinstance(outcome.value, dict | list) else None


def shown(value: object) -> str:
    """A voted value as text: lists separated by commas, objects as JSON."""
    if isinstance(value, list):
        return ", ".join(_label(element) for element in value)
    return _label(value)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> Fraction:
    return Fraction(len(one & other), len(one | other)) if one | other else Fraction(1)


def _label(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()
