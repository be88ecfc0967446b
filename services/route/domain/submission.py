"""Reading a submission: from the bytes that a user published to tasks, or to a reason that the user understands."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from contracts import subjects
from contracts.item import Failure, Input, Item
from contracts.job import Job, JobOpened, Lane, Options
from contracts.steps import AnyStep, Render, Report
from contracts.subjects import TOKEN
from contracts.task import Parked, Task
from services.route.domain.pattern import Pattern
from shared.errors import Rejected
from shared.explain import Undecodable, explain

RawItem = msgspec.Raw | bytes
"""An item as it was sent: JSON, or what was meant to be."""


@dataclass(frozen=True)
class Submission:
    """A message of JOBS. `at` is when the server stored it, in unix seconds."""

    tenant: str
    pattern: str
    sequence: int
    message_id: str
    data: bytes
    at: float
    reply: str = ""


@dataclass(frozen=True)
class Deadlines:
    """Seconds that a job has where it does not say."""

    interactive_s: float
    batch_s: float


@dataclass(frozen=True)
class Sizes:
    """How a job is cut: so many items in all, and in each shard."""

    items: int
    shard: int

    @property
    def shards(self) -> int:
        return -(-self.items // self.shard)


@dataclass(frozen=True)
class Opening:
    """A job whose head has been read: what waits for it, and how its shards are written."""

    parked: Parked
    pattern: Pattern
    slip: list[AnyStep]

    @property
    def group(self) -> str:
        return self.parked.task.group

    @property
    def prompt_first(self) -> bool:
        """Whether a person waits, and the work of all items begins with their prompt."""
        task = self.parked.task
        return self.parked.size == 1 and task.lane == "interactive" and isinstance(self.slip[0], Render)

    def opened(self, sequence: int) -> JobOpened:
        """The record that claims the job's id for the submission at this sequence."""
        task = self.parked.task
        return JobOpened(
            task.job, task.tenant, task.pattern, self.parked.items, self.parked.size, sequence, task.submitted_at,
            task.deadline,
        )  # fmt: skip

    def shard(self, index: int, raw: Sequence[RawItem]) -> Task:
        """The task of one shard; malformed items are in it as failed."""
        parent = self.parked.task
        first = index * self.parked.shard_size
        items = [read_item(first + k, line, self.pattern, parent.submitted_at) for k, line in enumerate(raw)]
        return msgspec.structs.replace(parent, id=f"{self.group}/{index}", items=items, steps=self.slip, index=index)


def read_job(data: bytes) -> Job:
    """Raises Rejected that names the field and what was expected."""
    try:
        return msgspec.json.decode(data or b"null", type=Job)
    except Undecodable as error:
        raise Rejected(explain(error, "job")) from None


def job_id(submission: Submission) -> str:
    """The payload's `job`, else the message id, else the stream sequence. Raises Rejected where it is no id."""
    given, source = _given_id(submission)
    if not given:
        return str(submission.sequence)
    if not TOKEN.match(given):
        raise Rejected(f"{source}: expected 1 to 64 letters, digits, - and _, got {given[:80]!r}")
    if given.isdecimal():
        raise Rejected(f"{source}: expected at least one letter, - or _: {given!r} could be another job's sequence")
    return given


def _given_id(submission: Submission) -> tuple[str, str]:
    try:
        job = msgspec.json.decode(submission.data, type=_OnlyId).job
    except Undecodable:
        job = ""
    return (job, "job") if job else (submission.message_id, subjects.MSG_ID)


class _OnlyId(msgspec.Struct):
    job: str = ""


def open_job(
    submission: Submission, job: Job, sizes: Sizes, pattern: Pattern, slip: list[AnyStep], deadlines: Deadlines
) -> Opening:
    """What to publish for a job before its shards. Raises Rejected where it has no items, or a user that cannot be."""
    if not sizes.items:
        raise Rejected("items: expected at least one item, got none")
    if job.user and not TOKEN.match(job.user):
        raise Rejected(f"user: expected 1 to 64 letters, digits, - and _, got {job.user[:80]!r}")
    name = job_id(submission)
    lane: Lane = job.lane or ("interactive" if sizes.items == 1 else "batch")
    usual = deadlines.interactive_s if lane == "interactive" else deadlines.batch_s
    deadline = submission.at + (job.deadline_s if job.deadline_s is not None else usual)
    group = subjects.job_group(submission.tenant, name)
    parent = Task(
        id=group, tenant=submission.tenant, job=name, pattern=pattern.name, items=[], steps=[Report()], group=group,
        index=0, lane=lane, options=job.options, deadline=deadline, submitted_at=submission.at, reply=submission.reply,
        user=job.user,
    )  # fmt: skip
    return Opening(Parked(parent, sizes.shards, "report", items=sizes.items, shard_size=sizes.shard), pattern, slip)


def read_item(n: int, raw: RawItem, pattern: Pattern, at: float) -> Item:
    """One item; a malformed one fails alone, with the reason."""
    try:
        given = msgspec.json.decode(raw, type=Input)
    except Undecodable as error:
        return _malformed(n, Input(), explain(error, f"items[{n}]"))
    wrong = pattern.check(given)
    if wrong is not None:
        return _malformed(n, Input(id=given.id), f"items[{n}].{wrong}")
    if given.deadline_s is not None and not 0 < given.deadline_s < float("inf"):
        return _malformed(n, given, f"items[{n}].deadline_s: expected more than 0 seconds, got {given.deadline_s}")
    return Item(n=n, input=given, deadline=None if given.deadline_s is None else at + given.deadline_s)


def _malformed(n: int, given: Input, reason: str) -> Item:
    return Item(n=n, input=given, failure=Failure("malformed", reason, "route"))


def with_stream(options: Options, items: int) -> Options:
    """Tokens are published where the job has one item, unless it says otherwise."""
    return options if options.stream is not None else msgspec.structs.replace(options, stream=items == 1)
