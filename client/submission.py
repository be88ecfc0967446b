"""Pure: from items as users hold them to the payload of a submission."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from client.errors import UsageError
from contracts.item import Input
from contracts.job import Job, Lane, Options
from contracts.subjects import TOKEN

ItemLike = Input | Mapping[str, object] | bytes
"""An item: an Input, a mapping with its fields, or one line of JSON, which may be wrong: then that item fails."""

INLINE_BYTES = 900 * 1024
"""A larger submission sends its items through the object store; a NATS server takes 1 MB a message by default."""


@dataclass(frozen=True)
class Submission:
    """A job ready to be sent; `lines`, where not empty, go to the object store, and the job carries their claim."""

    job: Job
    lines: bytes = b""

    def payload(self, claim: str = "") -> bytes:
        job = msgspec.structs.replace(self.job, items_claim=claim) if claim else self.job
        return msgspec.json.encode(job)


def new_job_id() -> str:
    return uuid4().hex[:20]


def submission(
    items: Sequence[ItemLike],
    *,
    job: str = "",
    options: Options | None = None,
    deadline_s: float | None = None,
    lane: Lane | None = None,
    user: str = "",
) -> Submission:
    """Write a job; items that are no JSON and jobs that are too large for a message go by claim."""
    lines = [_line(item) for item in items]
    head = Job(job=job, options=options or Options(), deadline_s=deadline_s, lane=lane)
    if user:
        head = msgspec.structs.replace(head, user=token("user", user))
    if sum(map(len, lines)) < INLINE_BYTES and all(_is_json(line) for line in lines):
        return Submission(msgspec.structs.replace(head, items=[msgspec.Raw(line) for line in lines]))
    return Submission(head, b"\n".join(lines))


def token(name: str, value: str) -> str:
    """A word that may stand in a subject; raises UsageError with what was expected."""
    if not re.fullmatch(TOKEN, value):
        raise UsageError(f"{name}: expected 1 to 64 letters, digits, - and _, got {value[:80]!r}")
    return value


def _line(item: ItemLike) -> bytes:
    if isinstance(item, bytes):
        return item.replace(b"\n", b" ")
    return msgspec.json.encode(item)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
