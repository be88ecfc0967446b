"""What users send and what they get back. These messages are JSON."""

from typing import Literal

from msgspec import Raw, Struct, field

from contracts.item import Answer, Failure, IndexedDocument, Tool, Usage, Verdict

Lane = Literal["interactive", "batch"]
CacheMode = Literal["", "off", "exact", "semantic"]
LANES: tuple[Lane, Lane] = ("interactive", "batch")


class Options(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a pattern shall work on all items of a job."""

    model: str = ""  # a name of models.yaml
    prompt: str = ""  # name or name@version of a prompt, for patterns that take any
    passages: int = 5  # how many passages the model sees
    session: str = ""  # conversation that the items belong to
    n: int = 0  # samples, where the pattern draws several; 0: the pattern's own number
    temperature: float | None = None
    max_tokens: int = 512
    stop: list[str] = field(default_factory=list)  # texts before which an answer ends
    seed: int | None = None  # equal seeds, equal samples, where the model's engine can; 0 to 2,147,483,647
    logprobs: int = 0  # so many of the likeliest tokens in each place of the answer, 0 to 20
    tools: list[Tool] = field(default_factory=list)  # what the model may ask to have called
    tool_choice: str = ""  # auto (as if empty), none, required, or the name of the tool that it has to call
    schema: dict[str, object] | None = None  # JSON Schema of the answer
    rubric: str = ""
    vote: str = ""  # the field of the JSON answer to vote on
    when_refused: Literal["answer", "fail"] = "answer"  # how "the documents do not say" counts
    when_ungrounded: Literal["mark", "fail"] = "fail"
    stream: bool | None = None  # publish tokens; by default where the job has one item
    cache: CacheMode = ""  # which kept answers will do; empty: as the services are set


class Job(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A submission: `jobs.<tenant>.<pattern>`. The items are read one by one, so that one bad item fails alone."""

    items: list[Raw] = field(default_factory=list)  # each an Input
    items_claim: str = ""  # instead of `items`: an object in the bucket `claims` with one Input a line (JSON lines)
    job: str = ""  # an id of the user's choice: letters, digits, - and _
    options: Options = Options()
    lane: Lane | None = None  # default: interactive for one item, else batch
    deadline_s: float | None = None  # seconds from submission for the whole job
    user: str = ""  # who of the tenant's people it is for: letters, digits, - and _; limits and budgets may be by user
    v: int = 1


class ItemResult(Struct, frozen=True, omit_defaults=True):
    """The answer to one item, or the reason why there is none."""

    n: int
    id: str = ""
    question: str = ""
    answer: Answer | None = None
    failure: Failure | None = None
    verdict: Verdict | None = None
    document: IndexedDocument | None = None
    usage: Usage = Usage()
    job: str = ""  # set where the result travels alone, as the reply to an ask
    session: Usage | None = None  # what all turns of its session have used, this one included


class JobOpened(Struct, frozen=True, omit_defaults=True):
    """`results.<tenant>.<job>.open`: the job has been accepted; written once, so it also claims the job's id."""

    job: str
    tenant: str
    pattern: str
    size: int
    shards: int
    sequence: int  # of the submission in JOBS
    submitted_at: float  # unix seconds
    deadline: float | None = None
    v: int = 1


class ShardResult(Struct, frozen=True, omit_defaults=True):
    """`results.<tenant>.<job>.<shard>`: the results of a shard's items, written once."""

    job: str
    shard: int
    items: list[ItemResult]
    v: int = 1


class ItemFailure(Struct, frozen=True, omit_defaults=True):
    """A line of the report."""

    n: int
    code: str
    reason: str
    id: str = ""


class JobReport(Struct, frozen=True, omit_defaults=True):
    """`results.<tenant>.<job>.done`: how the job ended."""

    job: str
    tenant: str
    pattern: str
    state: Literal["done", "cancelled", "expired", "rejected"]
    size: int = 0
    succeeded: int = 0
    failed: int = 0
    seconds: float = 0.0  # from submission to report
    usage: Usage = Usage()
    reasons: dict[str, int] = field(default_factory=dict)  # failures by code
    failures: list[ItemFailure] = field(default_factory=list)  # the first 1,000
    error: str = ""  # for `rejected`: which field, and what was expected
    shards: int = 0
    submitted_at: float = 0.0
    rungs: dict[str, int] = field(default_factory=dict)  # answers by rung, those of the model asked for left out
    user: str = ""  # as the job said
    v: int = 1


class TokenDelta(Struct, frozen=True, omit_defaults=True):
    """`tokens.<tenant>.<job>.<n>`: a piece of an answer as it is made; core NATS, not stored."""

    index: int  # counts from 0 within one attempt
    text: str = ""
    attempt: int = 1  # a higher number means: forget what came before
    finish_reason: str = ""  # set in the last delta
    tokens: int = 0  # of this attempt so far, this piece included; 0 where the engine does not say
