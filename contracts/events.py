"""The audit log: one record a hop. These messages are JSON."""

from msgspec import Struct, field

from contracts.item import Message, Usage


class Hop(Struct, frozen=True, omit_defaults=True):
    """`events.<tenant>.<job>`: what one service did with one shard. Times: unix seconds and milliseconds."""

    tenant: str
    job: str
    task: str
    service: str
    step: str
    hop: int
    at: float
    queued_ms: float = 0.0
    took_ms: float = 0.0
    items: int = 0
    failed: int = 0
    attempt: int = 1
    model: str = ""
    prompt: str = ""
    passages: int = 0
    truncated: int = 0  # render: passages, turns and parts that did not fit the model's window, over the items
    usage: Usage = Usage()
    error: str = ""
    replica: str = ""
    trace: str = ""
    details: dict[str, str] = field(default_factory=dict)
    ttft_ms: float = 0.0  # generate: from the job's submission to the first token, mean over the items
    engine_queue_ms: float = 0.0  # … of it in the engine's own queue
    prefill_ms: float = 0.0  # … and for the prompt
    decode_ms: float = 0.0  # from the first token to the last
    rungs: dict[str, int] = field(default_factory=dict)  # generate: completions by rung, those of the primary left out
    why: str = ""  # … and what was wrong with the models above, of the first one
    pattern: str = ""
    user: str = ""  # as the job said
    v: int = 1


class Advisory(Struct, frozen=True):
    """What the server says of a message that it has delivered `max_deliver` times; other fields are not read."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int


class Replica(Struct, frozen=True, omit_defaults=True):
    """KV `replicas`: what a replica of generate says about itself, every second."""

    name: str
    models: list[str] = field(default_factory=list)  # those that keep prefixes
    load: int = 0  # calls that it has taken, those that wait in its engine included
    slots: int = 1  # calls that it makes progress with at the same time
    prefixes: list[str] = field(default_factory=list)  # computed last, each as `shown`, newest first, at most 1,024
    leaving: bool = False  # it takes nothing new, and finishes what it has in hand
    v: int = 1


def shown(prefix: str) -> str:
    """A prefix's key as the register shows it. Each record has all that a replica holds, every second: a thousand keys
    are 11 KB so, and one in four million that it does not hold is taken for one of them."""
    return prefix[:8]


class Warm(Struct, frozen=True, omit_defaults=True):
    """`warm.<replica>`: compute how a new version of a prompt begins, before questions come with it; not stored."""

    tenant: str
    model: str
    prompt: str  # name@version
    prefix: str  # what route calls the beginning, within its tenant
    messages: list[Message]
    v: int = 1


class Cancel(Struct, frozen=True, omit_defaults=True):
    """`control.<tenant>.cancel.<job>`: stop a job; an empty object will do."""

    reason: str = ""
    v: int = 1


class Forget(Struct, frozen=True):
    """`forget.<tenant>`, a request to all replicas: what the log has no more shall be in no file."""

    v: int = 1


class Forgotten(Struct, frozen=True, omit_defaults=True):
    """What a replica answers to a Forget."""

    replica: str
    removed: int = 0  # documents
    left: int = 0  # documents of the tenant that the log still has
    v: int = 1
