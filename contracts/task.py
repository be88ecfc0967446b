"""The messages between services. These are msgpack."""

from msgspec import Struct, field

from contracts.item import Failure, Item, Usage
from contracts.job import Lane, Options
from contracts.steps import AnyStep, Merge


class Task(Struct, frozen=True, omit_defaults=True):
    """A shard of items and the steps still to take: `work.<service>.<lane>`.

    `id` is deterministic (`<group>/<index>`), and `<id>.<hop>` is the message id of each hop, so that a hop that is
    taken twice is published once.
    """

    id: str
    tenant: str
    job: str
    pattern: str
    items: list[Item]
    steps: list[AnyStep]
    group: str  # where it arrives when no step is left
    index: int  # its bit in that group
    lane: Lane = "interactive"
    options: Options = Options()
    deadline: float | None = None  # unix seconds, of the whole job
    submitted_at: float = 0.0
    hop: int = 0
    reply: str = ""  # where an ask wants its answer
    spent_s: float = 0.0  # seconds that services have worked on it so far, all together
    user: str = ""  # as the job said
    v: int = 1


class Parked(Struct, frozen=True, omit_defaults=True):
    """What waits for a group: KV `parked`, key = group."""

    task: Task  # the parent: its items as they were, and the steps to take once all children are back
    size: int
    merge: Merge = "parts"
    items: int = 0  # of a job's own group: how many items there are, and how many a shard holds
    shard_size: int = 0
    children: list[list[tuple[int, int]]] = field(default_factory=list)  # of a scatter: n, part of each child's items
    v: int = 1


class Cursor(Struct, frozen=True, omit_defaults=True):
    """Up to where a large job has been opened: KV `parked`, key = `<group>/window`. Gone once all of it is."""

    claim: str  # the object with the items
    shard: int  # the next one to publish
    mark: int  # so many shards must have arrived before it goes on
    sequence: int = 0  # of the chunk in the object store's stream in which the next line begins; 0: the first
    offset: int = 0  # bytes into that chunk
    passed: int = 0  # bytes of the object before that chunk
    v: int = 1


class Arrival(Struct, frozen=True, omit_defaults=True):
    """A child's result inside a job: `groups.<group>.<index>`, written once."""

    group: str
    index: int
    items: list[Item]
    spent_s: float = 0.0
    v: int = 1


class Tally(Struct, frozen=True, omit_defaults=True):
    """What an arrival adds to its group; in the result's headers, so that a group can be recounted from its stream."""

    succeeded: int = 0
    failed: int = 0
    usage: Usage = Usage()
    reasons: dict[str, int] = field(default_factory=dict)  # failures by code
    spent_ms: int = 0  # that services have worked on it
    rungs: dict[str, int] = field(default_factory=dict)  # answers by rung, those of the primary left out


class Waited(Struct, frozen=True, omit_defaults=True):
    """In the headers of a task that waits for something that is nobody's fault, such as a model that is away."""

    until: float  # unix seconds: not to be worked on before
    failed: int = 0  # attempts that have failed so far; waiting is none
    runs: int = 0  # how often it was worked on so far


class DeadLetter(Struct, frozen=True, omit_defaults=True):
    """A task that can never succeed: `dead.<service>`. `payload` is the message as it was."""

    service: str
    subject: str
    reason: str
    failure: Failure
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
    deliveries: int = 1
    at: float = 0.0
    v: int = 1
