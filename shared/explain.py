"""What is wrong with a user's JSON, in the user's words: the field, what was expected, what came."""

import re

import msgspec

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.S)


Undecodable = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode."""


def explain(error: Exception, root: str) -> str:
    """One line: `items[3].question: expected str, got int`; `root` names the message itself."""
    if isinstance(error, UnicodeDecodeError):
        return f"{root}: not UTF-8: the byte {error.object[error.start]:#04x} {_after(error)} begins no character"
    if isinstance(error, RecursionError):
        return f"{root}: nested too deeply"
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    if not isinstance(error, msgspec.ValidationError):
        what = what.removeprefix("JSON is malformed: ")
        return f"{root}: not valid JSON: {what[:1].lower()}{what[1:]}"
    name = f"{root}{path}".removeprefix("$").removeprefix(".")
    return f"{name}: {what[:1].lower()}{what[1:]}".replace("`", "")


def _after(error: UnicodeDecodeError) -> str:
    """Where a byte stands: msgspec shows only the text that it is part of, so its number says nothing."""
    before = error.object[max(0, error.start - 20) : error.start].decode(errors="replace")
    return f"after {before!r}" if before else "at the start of a text"
