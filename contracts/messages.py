"""The registry of messages: what travels where, in which form, and who answers for it.

Examples (`contracts/examples/`), JSON Schemas (`contracts/schemas/`) and the AsyncAPI document are checked against or
made from it. Raise a contract's `version` with every change that would break a reader or a writer of the old form.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from msgspec import Struct

from contracts import subjects
from contracts.documents import Document
from contracts.events import Advisory, Cancel, Forget, Forgotten, Hop, Replica, Warm
from contracts.item import Input
from contracts.job import ItemResult, Job, JobOpened, JobReport, Lane, ShardResult, TokenDelta
from contracts.limits import LimitsQuery, LimitsUse
from contracts.reindex import Reindex, Reindexing
from contracts.steps import AnyStep, Step
from contracts.subjects import BUCKETS, STREAMS, Bucket, Stream
from contracts.task import Arrival, Cursor, DeadLetter, Parked, Tally, Task, Waited

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER / "examples"
SCHEMAS = FOLDER / "schemas"
ASYNCAPI = FOLDER / "asyncapi.yaml"

Party = Literal["users", "services"]
Owner = Literal["users", "server", "services", "ingest", "retrieve", "rerank", "route", "generate", "judge", "memory"]


@dataclass(frozen=True)
class Contract:
    """One message that travels.

    `owner` decides its form and writes it; `readers` are who must understand it. `subject` has its variable tokens in
    braces; empty for what only travels inside another message.
    """

    struct: type[Struct]
    subject: str
    owner: Owner
    readers: Party
    encoding: Literal["json", "msgpack"]
    version: int = 1
    also: tuple[type[Struct], ...] = ()  # what else its subject takes
    reply: type[Struct] | None = None  # what comes back on the requester's inbox
    headers: tuple[str, ...] = ()
    inside: str = ""  # the message that carries it

    @property
    def name(self) -> str:
        return self.struct.__name__

    @property
    def file(self) -> str:
        """The name of its files in `examples/` and `schemas/`."""
        return f"{self.name}.v{self.version}.json"

    @property
    def stream(self) -> Stream | None:
        """The stream that stores it; None for core NATS and buckets."""
        return stream_of(self.subject)

    @property
    def bucket(self) -> Bucket | None:
        return next((b for b in BUCKETS if self.subject.startswith(f"$KV.{b.name}.")), None)


def stream_of(subject: str) -> Stream | None:
    """The stream that stores a subject, whose variable tokens are in braces."""
    return next((s for s in STREAMS if any(covers(p, subject) for p in s.subjects)), None)


def covers(pattern: str, subject: str) -> bool:
    """Whether a stream's subject pattern takes in a subject; variable tokens of the subject match `*` and `>` only."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and covers(".".join(wanted[:-1]), ".".join(given[: len(wanted) - 1]))
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


def _named(wildcards: str, *names: str) -> str:
    """`jobs.*.*`, tenant, pattern → `jobs.{tenant}.{pattern}`."""
    for name in names:
        wildcards = wildcards.replace("*", f"{{{name}}}", 1)
    return wildcards


_ANY_LANE = cast("Lane", "*")
_WORK = _named(subjects.work_filter("*", _ANY_LANE), "service", "lane")
_GENERATE = _named(subjects.work_filter("generate", _ANY_LANE), "model", "lane")
_OF_REPLICA = _named(subjects.work_of("*", _ANY_LANE), "model", "lane", "replica")
_SCHEDULE = _named(subjects.schedule("*"), "group")
_ASKED = _named(subjects.asked("*", "*"), "tenant", "pattern")
_ALARM = _named(subjects.alarm("*"), "group")
_RESULT = _named(subjects.result("*", "*", "*"), "tenant", "job", "shard")
_OPEN = _named(subjects.result("*", "*", "open"), "tenant", "job")
_DONE = _named(subjects.result("*", "*", "done"), "tenant", "job")
_TOKENS = _named(subjects.tokens("*", "*", "*"), "tenant", "job", "n")

SERVICE_ERROR = "Nats-Service-Error"
SERVICE_ERROR_CODE = "Nats-Service-Error-Code"

_RESULT_HEADERS = (subjects.TALLY, subjects.SHARD, subjects.CLAIM)
_WORK_HEADERS = (subjects.MSG_ID, subjects.CLAIM, subjects.SHARD, subjects.WAITED)

OF_USERS = (
    Contract(
        Job,
        _named(subjects.jobs("*", "*"), "tenant", "pattern"),
        owner="users",
        readers="services",
        encoding="json",
        headers=(subjects.MSG_ID,),
    ),
    Contract(
        Input,
        _named(subjects.ask("*", "*"), "tenant", "pattern"),
        owner="users",
        readers="services",
        encoding="json",
        also=(Job,),
        reply=ItemResult,
    ),
    Contract(
        Cancel,
        _named(subjects.cancel("*", "*"), "tenant", "job"),
        owner="users",
        readers="services",
        encoding="json",
    ),
    Contract(
        Reindex,
        _named(subjects.reindex("*"), "replica"),
        owner="users",
        readers="services",
        encoding="json",
        reply=Reindexing,
    ),
    Contract(
        LimitsQuery,
        _named(subjects.limits("*"), "tenant"),
        owner="users",
        readers="services",
        encoding="json",
        reply=LimitsUse,
    ),
)

FOR_USERS = (
    Contract(JobOpened, _OPEN, owner="route", readers="users", encoding="json"),
    Contract(ShardResult, _RESULT, owner="services", readers="users", encoding="json", headers=_RESULT_HEADERS),
    Contract(JobReport, _DONE, owner="route", readers="users", encoding="json", headers=(subjects.CLAIM,)),
    Contract(
        ItemResult,
        "",
        owner="services",
        readers="users",
        encoding="json",
        headers=(SERVICE_ERROR, SERVICE_ERROR_CODE),
        inside="ShardResult, and alone as the reply to an ask",
    ),
    Contract(Reindexing, "", owner="retrieve", readers="users", encoding="json", inside="the reply to Reindex"),
    Contract(LimitsUse, "", owner="generate", readers="users", encoding="json", inside="the reply to LimitsQuery"),
    Contract(TokenDelta, _TOKENS, owner="generate", readers="users", encoding="json"),
    Contract(
        Hop, _named(subjects.events("*", "*"), "tenant", "job"), owner="services", readers="users", encoding="json"
    ),
)

BETWEEN_SERVICES = (
    Contract(Task, _WORK, owner="services", readers="services", encoding="msgpack", headers=_WORK_HEADERS),
    Contract(
        Arrival,
        _named(subjects.arrival("*", "*"), "group", "index"),
        owner="services",
        readers="services",
        encoding="msgpack",
        headers=(subjects.TALLY, subjects.CLAIM),
    ),
    Contract(
        Parked,
        f"$KV.{subjects.PARKED.name}.{{group}}",
        owner="services",
        readers="services",
        encoding="msgpack",
    ),
    Contract(
        Cursor,
        f"$KV.{subjects.PARKED.name}.{{group}}/window",
        owner="route",
        readers="services",
        encoding="msgpack",
    ),
    Contract(Replica, subjects.replica("{replica}"), owner="generate", readers="services", encoding="json"),
    Contract(Warm, subjects.warm("{replica}"), owner="route", readers="services", encoding="json"),
    Contract(
        DeadLetter,
        _named(subjects.dead("*"), "service"),
        owner="services",
        readers="services",
        encoding="msgpack",
    ),
    Contract(
        Advisory,
        _named(subjects.given_up("*"), "consumer"),
        owner="server",
        readers="services",
        encoding="json",
    ),
    Contract(
        Document,
        _named(subjects.documents("*", "*"), "tenant", "document"),
        owner="ingest",
        readers="services",
        encoding="msgpack",
        headers=(subjects.CLAIM, subjects.CLAIM_BUCKET),
    ),
    Contract(
        Forget,
        _named(subjects.forget("*"), "tenant"),
        owner="services",
        readers="services",
        encoding="json",
        reply=Forgotten,
    ),
    Contract(Forgotten, "", owner="retrieve", readers="services", encoding="json", inside="the reply to Forget"),
    Contract(Tally, "", owner="services", readers="services", encoding="json", inside=f"header {subjects.TALLY}"),
    Contract(Waited, "", owner="services", readers="services", encoding="json", inside=f"header {subjects.WAITED}"),
)

STEP_TYPES: tuple[type[Step], ...] = get_args(AnyStep)


def _step(kind: type[Step]) -> Contract:
    owner = cast("Owner", kind.service)
    return Contract(kind, "", owner=owner, readers="services", encoding="msgpack", inside="Task")


MESSAGES = OF_USERS + FOR_USERS + BETWEEN_SERVICES
STEPS = tuple(_step(kind) for kind in STEP_TYPES)
CONTRACTS = MESSAGES + STEPS

MORE_SUBJECTS: dict[str, tuple[type[Struct], str]] = {
    _ASKED: (Job, "An ask that has become a job: route's endpoint publishes it, with the requester's reply subject."),
    _GENERATE: (Task, "A task whose next step is Generate: route has chosen the model."),
    _OF_REPLICA: (Task, "A task whose next step is Generate, for the replica that holds the beginning of its prompt."),
    _SCHEDULE: (Task, "A group's alarm, to be delivered by the server when the group's deadline has passed."),
    _ALARM: (Task, "A group's alarm has gone off: what is missing in the group fails."),
}
"""Further subjects of a message that has more than one, and what it means there."""

RAW: dict[tuple[type[Struct], str], type[Struct]] = {(Job, "items"): Input}
"""What a field holds that is decoded later, element by element."""

HEADERS = {
    subjects.MSG_ID: "Makes publishing idempotent: the stream stores the first message with this id, drops the others.",
    subjects.CLAIM: "The payload lies in the object store under this name; the message's own body is empty.",
    subjects.TENANT: "In the description of an object: the tenant whose claim it is.",
    subjects.CLAIM_BUCKET: "The bucket of the claim, where it is not `claims`.",
    SERVICE_ERROR: "In the reply to an ask: why there is no answer, as NATS services say it.",
    SERVICE_ERROR_CODE: "In the reply to an ask: 503 where the queue was full, 429 where a "
    "limit leaves no room (try again), 402 where a budget is spent, 422 where it failed.",
    subjects.REPLY: "Where the answer to an ask is wanted.",
    subjects.TALLY: "JSON of a Tally: how many items succeeded and failed, and what they used.",
    subjects.BURIED: "The result came from a dead letter; while its group waits, a redriven task's takes its place.",
    subjects.WAITED: "JSON of a Waited: not to be worked on before its time, which is no failed attempt.",
    subjects.SHARD: "Group, index and item numbers: enough to fail the items of a task that cannot be read.",
}
