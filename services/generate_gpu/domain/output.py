"""JSON that a model was asked for: found in its text, and checked against the schema."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from contracts.item import Message
from shared.errors import ItemError
from shared.schema_check import Uncheckable, mismatch, validator_of

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)
_SHOWN = 160
_OF_JSON = (Path(__file__).parent / "repair.md").read_text(encoding="utf-8")
_OF_A_CALL = (Path(__file__).parent / "repair_call.md").read_text(encoding="utf-8")

Data = dict[str, object] | list[object]


@dataclass(frozen=True)
class Invalid:
    """Why a text does not fit: the place in the JSON, and what was expected there."""

    path: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: {self.expected}"


def checker(schema: dict[str, object]) -> Draft202012Validator:
    """A validator that never fetches anything; raises ItemError `malformed` where this is no JSON Schema."""
    try:
        return validator_of(schema)
    except Uncheckable as error:
        raise ItemError("malformed", f"options.schema: {error}") from None


def parsed(text: str, validator: Draft202012Validator) -> Data | Invalid:
    """The JSON in a text, as a whole or in one fenced block, where it fits the schema."""
    fenced = _FENCED.findall(text)
    try:
        data = json.loads(fenced[0] if len(fenced) == 1 else text, parse_constant=_no_constant)
    except ValueError as error:
        return Invalid("$", f"expected JSON, got {_short(text)!r} ({error})")
    except RecursionError:
        return Invalid("$", f"expected JSON that is not nested so deep, got {_short(text)!r}")
    try:
        wrong = mismatch(validator, data)
    except Uncheckable as error:
        raise ItemError("malformed", f"options.schema: {error}") from None
    if wrong is not None:
        return Invalid(wrong.json_path, expectation(wrong))
    if not isinstance(data, dict | list):
        return Invalid("$", f"expected an object or an array, got {_short(text)}")
    return data


def feedback(request: list[Message], answer: str, wrong: Invalid, *, of_a_call: bool = False) -> list[Message]:
    """The messages of the one repair: the answer that did not fit, and what is wrong with it."""
    said = (_OF_A_CALL if of_a_call else _OF_JSON).format(wrong=wrong)
    return [*request, Message("assistant", answer), Message("user", said)]


def expectation(error: ValidationError) -> str:
    """What was expected and what came; jsonschema's own text repeats the whole value, however long."""
    instance: Any = error.instance
    got = _json(instance)
    expected: Any = error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in expected if name not in instance]
            return f"expected the fields {', '.join(missing)}, which are missing"
        case "type":
            wanted = expected if isinstance(expected, str) else " or ".join(expected)
            return f"expected {wanted}, got {got}"
        case "enum":
            return f"expected one of {_json(expected)}, got {got}"
        case "additionalProperties":
            return f"expected no other fields, got {got}"
        case _:
            return f"expected {error.validator} {_json(expected)}, got {got}"


def _json(value: object) -> str:
    return _short(json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
