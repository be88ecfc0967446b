"""JSON Schemas of users: every check ends, soon, with an answer or with an error that says what is wrong.

A pattern can take exponential time, so can `$ref`; both would stop the event loop, and the next replica's after it.
So a timer of the process interrupts a check: Python looks for signals inside `re`, too. Works in the main thread only.
"""

import math
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, UnknownType, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from shared.errors import PenstockError

LIMIT_S = 1.0  # of this thread's processor time; an honest check of 100 kB takes a tenth
_AGAIN_S = 0.05  # where the first interruption was swallowed, such as by a finalizer
_SHOWN = 200
_BROKEN = (re.error, UnknownType, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of a `$ref` to a part of the schema that is no schema itself: the metaschema does not look there."""


class Uncheckable(PenstockError):
    """A schema that is none, or that this cannot be checked against. The caller says where it stands."""


class _TooLong(BaseException):
    """Nothing on its way may catch it."""


class _Watch:
    """Ends what runs for too long."""

    def __init__(self) -> None:
        self._ends = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        # the handler stays: a signal that comes late would end the process without one
        signal.signal(signal.SIGVTALRM, self._look)
        self._ends = time.thread_time() + seconds
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN_S)
            try:
                yield
            finally:
                self._ends = math.inf
        finally:  # also where the signal came between `yield` and the line above
            self._ends = math.inf
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _look(self, *_: object) -> None:
        if time.thread_time() >= self._ends:  # the timer counts all threads
            raise _TooLong


_watch = _Watch()


def validator_of(schema: dict[str, object]) -> Draft202012Validator:
    """A validator that fetches nothing; raises Uncheckable. What no data at all could be checked against is found."""
    with _checking():
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            reason = f"not a JSON Schema: {error.json_path}: {error.message[:_SHOWN]}"
            raise Uncheckable(reason) from None
        validator = unfetching(schema)
        for nothing in (dict[str, object](), list[object]()):
            validator.is_valid(nothing)
    return validator


def unfetching(schema: dict[str, object]) -> Draft202012Validator:
    """A validator that fetches nothing, for a schema that is one."""
    return Draft202012Validator(schema, registry=Registry())


def mismatch(validator: Draft202012Validator, data: object) -> ValidationError | None:
    """What does not fit, the most telling fault of all; raises Uncheckable."""
    with _checking():
        found: ValidationError | None = best_match(validator.iter_errors(data))
    return found


@contextmanager
def _checking() -> Iterator[None]:
    try:
        with _watch.within(LIMIT_S):
            yield
    except _TooLong:
        reason = f"a check takes more than {LIMIT_S:g} s; expected simpler patterns and references"
        raise Uncheckable(reason) from None
    except RecursionError:
        raise Uncheckable("refers to itself without end, or is nested too deep") from None
    except Unresolvable as error:
        raise Uncheckable(f"cannot resolve {error.ref!r:.{_SHOWN}}") from None
    except _BROKEN as error:
        reason = str(error).partition("\n")[0][:_SHOWN]
        raise Uncheckable(f"a part that is referred to is no JSON Schema: {reason}") from None
