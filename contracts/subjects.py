"""Every subject, stream and bucket in one place, with its owner."""

import re
from dataclasses import dataclass
from typing import Literal

from contracts.job import Lane
from contracts.steps import AnyStep, Generate

TOKEN = re.compile(r"^[A-Za-z0-9_-]{1,64}\Z")
"""What tenants, patterns, job ids, document ids and model names may look like: one token of a subject."""

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Stream:
    """A JetStream stream: `retention` limits or work queue; ages in seconds; a full one refuses new messages."""

    name: str
    subjects: tuple[str, ...]
    owner: str
    kind: Literal["limits", "workqueue"]
    max_age_s: float = 0.0
    max_bytes: int = 1 << 30
    per_subject: int = -1
    refuse_when_full: bool = False
    schedules: bool = False
    dedupe_s: float = 120.0
    replaceable: bool = False  # a message may take the place of those before it on its subject, in one go


JOBS = Stream("JOBS", ("jobs.*.*", "asks.*.*"), "users", "workqueue", refuse_when_full=True)
WORK = Stream("WORK", ("work.>",), "services", "workqueue", max_bytes=4 << 30, refuse_when_full=True)
ALARMS = Stream("ALARMS", ("schedules.>", "alarms.>"), "services", "workqueue", schedules=True)
"""Deadlines of groups: a schedule becomes an alarm in the same stream, which may not refuse when it is full."""
RESULTS = Stream(
    "RESULTS",
    ("results.*.*.*",),
    "services",
    "limits",
    max_age_s=7 * DAY,
    max_bytes=8 << 30,
    replaceable=True,
    refuse_when_full=True,
)
GROUPS = Stream("GROUPS", ("groups.*.*",), "services", "limits", max_age_s=DAY, max_bytes=4 << 30, replaceable=True)
EVENTS = Stream("EVENTS", ("events.*.*",), "services", "limits", max_age_s=7 * DAY, max_bytes=2 << 30)
DOCUMENTS = Stream(
    "DOCUMENTS", ("documents.*.*",), "ingest", "limits", max_bytes=8 << 30, per_subject=1, refuse_when_full=True
)
CONTROL = Stream("CONTROL", ("control.>", "feedback.>"), "users", "limits", max_age_s=DAY, dedupe_s=0.1)
"""Message ids are forgotten at once: who cancels again means it."""
DEAD = Stream("DEAD", ("dead.*",), "services", "limits", max_age_s=30 * DAY)
ADVISORIES = Stream(
    "ADVISORIES",
    tuple(f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream.name}.*" for stream in (WORK, ALARMS)),
    "server",
    "workqueue",
)
"""What the server says of messages that it has delivered `max_deliver` times; it says so once, so it is stored."""

STREAMS = (JOBS, WORK, ALARMS, RESULTS, GROUPS, EVENTS, DOCUMENTS, CONTROL, DEAD, ADVISORIES)


@dataclass(frozen=True)
class Bucket:
    """A KV bucket or an object store."""

    name: str
    kind: Literal["kv", "objects"]
    ttl_s: float = 0.0


PARKED = Bucket("parked", "kv", ttl_s=7 * DAY)
CLAIMS = Bucket("claims", "objects", ttl_s=7 * DAY)
LIBRARY = Bucket("library", "objects")
"""Documents too large for a message of DOCUMENTS: kept as long as their message, so without an age."""
REPLICAS = Bucket("replicas", "kv", ttl_s=3.0)
"""Who is alive: a replica that has not said so for three seconds is gone, and its waiting work goes to others."""
BUCKETS = (PARKED, CLAIMS, LIBRARY, REPLICAS)

MSG_ID = "Nats-Msg-Id"
EXPECT_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
ROLLUP = "Nats-Rollup"
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
CLAIM = "Penstock-Claim"  # the payload lies in the object store under this name
TENANT = "Penstock-Tenant"  # in the description of an object: whose claim it is
CLAIM_BUCKET = "Penstock-Claim-Bucket"  # the bucket of the claim, where it is not CLAIMS
REPLY = "Penstock-Reply"  # where the answer to an ask is wanted
TALLY = "Penstock-Tally"  # JSON of a Tally
BURIED = "Penstock-Buried"  # a result that came from a dead letter: what a redriven task brings takes its place
WAITED = "Penstock-Waited"  # JSON of a Waited: the task is not to be worked on before its time
SHARD = "Penstock-Shard"  # <group> <index> <item numbers>: enough to fail the items of a task that cannot be read


ERASED = "~erased"
"""In the place of a document's id, which it cannot be: all documents of the tenant that are not in the log are gone."""


def jobs(tenant: str, pattern: str) -> str:
    return f"jobs.{tenant}.{pattern}"


def ask(tenant: str, pattern: str) -> str:
    return f"ask.{tenant}.{pattern}"


def asked(tenant: str, pattern: str) -> str:
    """An ask that has become a job. Only route publishes here, so only here the headers of ours are believed."""
    return f"asks.{tenant}.{pattern}"


def limits(tenant: str) -> str:
    """Where a tenant asks what it has used of its limits."""
    return f"limits.{tenant}"


def work(step: AnyStep, lane: Lane) -> str:
    """Where a task goes whose next step is this one."""
    if isinstance(step, Generate):
        subject = f"work.generate.{step.model or 'default'}.{lane}"
        return f"{subject}.{step.replica}" if step.replica else subject
    return f"work.{step.service}.{lane}"


def work_filter(service: str, lane: Lane) -> str:
    """What a service's consumer of a lane listens to."""
    return f"work.generate.*.{lane}" if service == "generate" else f"work.{service}.{lane}"


def work_of(replica: str, lane: Lane) -> str:
    """What one replica of generate listens to besides: the tasks whose prefix it holds."""
    return f"work.generate.*.{lane}.{replica}"


def consumer_of(replica: str, lane: str) -> str:
    """Its consumer of them."""
    return f"generate-{replica}-{lane}"


def replica(name: str) -> str:
    """Where a replica says that it is alive."""
    return f"$KV.{REPLICAS.name}.{name}"


def warm(replica: str) -> str:
    """What a replica is to compute before questions come; core NATS."""
    return f"warm.{replica}"


def schedule(group: str) -> str:
    return f"schedules.{group}"


def given_up(consumer: str) -> str:
    return f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.WORK.{consumer}"


def alarm(group: str) -> str:
    return f"alarms.{group}"


def result(tenant: str, job: str, shard: int | Literal["open", "done", "*"]) -> str:
    return f"results.{tenant}.{job}.{shard}"


def arrival(group: str, index: int | Literal["*"]) -> str:
    return f"groups.{group}.{index}"


def tokens(tenant: str, job: str, n: int | Literal["*"]) -> str:
    return f"tokens.{tenant}.{job}.{n}"


def events(tenant: str, job: str) -> str:
    return f"events.{tenant}.{job}"


def documents(tenant: str, document: str) -> str:
    return f"documents.{tenant}.{document}"


def forget(tenant: str) -> str:
    """Where the operator asks everybody who keeps documents of a tenant in files of its own to drop what is gone."""
    return f"forget.{tenant}"


def cancel(tenant: str, job: str) -> str:
    return f"control.{tenant}.cancel.{job}"


ALL_REPLICAS = "all"


def reindex(replica: str) -> str:
    """Where a replica of retrieve takes orders to fill engines anew, and says how far it is."""
    return f"reindex.{replica}"


def dead(service: str) -> str:
    return f"dead.{service}"


def job_group(tenant: str, job: str) -> str:
    """The group of all shards of a job; groups of scatters inside it go on with /<shard>/<hop>."""
    return f"{tenant}/{job}"
