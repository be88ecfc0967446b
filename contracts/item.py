"""The item: the unit of work, and what has been learnt about it so far."""

from typing import Literal

from msgspec import Struct, field, json

Role = Literal["system", "user", "assistant", "tool"]
Rung = Literal[
    "primary",  # the model that was asked for
    "backup",  # another model that writes
    "degraded",  # sentences of the passages, or a text that was written beforehand
]
FailureCode = Literal[
    "malformed",  # the input does not have the form that the pattern needs
    "unanswerable",  # the documents do not say, and the job asked for that to count as a failure
    "ungrounded",  # the answer has a sentence that no passage supports
    "deadline_exceeded",
    "cancelled",
    "unreadable",  # a document cannot be parsed: corrupt, encrypted, too large, …
    "invalid_output",  # the model's output does not fit the schema, after one repair
    "upstream",  # a model endpoint or an engine refused or failed for good
    "too_large",
    "busy",  # the queue is full: nothing was accepted, try again in a few seconds
    "over_limit",  # a rate limit leaves no room before the deadline: the reason says when to come back
    "over_budget",  # a budget is spent, or what is left of it is too little: the reason says when it resets
    "internal",  # a fault of ours: see the dead letters
]


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why an item has no answer."""

    code: FailureCode
    reason: str  # one sentence for a person: names the field or the file and what was expected
    service: str = ""
    retry_after_s: float = 0.0  # seconds after which it is worth another try, where that is known


class Usage(Struct, frozen=True, omit_defaults=True):
    """What an item, a shard or a job has used so far. Tokens are counts, cost is in US dollars."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
            self.cost_usd + other.cost_usd,
        )


class Tool(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A function that a model may ask to have called; nothing is called here."""

    name: str  # letters, digits, - and _
    description: str = ""
    parameters: dict[str, object] = field(default_factory=dict)  # JSON Schema of its arguments, an object


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """What a model asks to have called; its arguments fit the tool's schema."""

    name: str
    arguments: dict[str, object] = field(default_factory=dict)
    id: str = ""
    raw: str = ""  # the arguments as the model wrote them, where they are no JSON object; such a call is not let out


class ToolTurn(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What came after a question: calls that the model asked for, then what each of them has brought."""

    role: Literal["assistant", "tool"]
    content: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)  # of the assistant, as its answer had them
    tool_call_id: str = ""  # of a tool: the `id` of the call that brought this


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a prompt, as chat models take it."""

    role: Role
    content: str
    tool_calls: list[ToolCall] = field(default_factory=list)  # of an assistant: what it asked to have called
    tool_call_id: str = ""  # of a tool: which call brought this

    @property
    def said(self) -> str:
        """All that counts as text, calls included."""
        calls = [f"{call.name}({json.encode(call.arguments).decode()})" for call in self.tool_calls]
        return "\n".join([self.content, *calls]) if calls else self.content


class DocumentRef(Struct, frozen=True, omit_defaults=True):
    """A document to read: its bytes lie in the object store `claims`, or its text is given here."""

    name: str  # file name; its suffix says the format
    claim: str = ""  # object name in the bucket `claims`
    text: str = ""
    id: str = ""  # defaults to a slug of the name; the same id replaces the document
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class Input(Struct, frozen=True, omit_defaults=True):
    """One item as its user sends it. Which fields are needed depends on the pattern."""

    question: str = ""
    id: str = ""  # the user's own reference, echoed in the result
    context: str = ""  # text given along with the question
    variables: dict[str, str] = field(default_factory=dict)  # for the prompt's template
    document: DocumentRef | None = None
    filters: dict[str, str | list[str]] = field(default_factory=dict)  # metadata that passages must have
    deadline_s: float | None = None  # seconds from the job's submission
    turns: list[ToolTurn] = field(
        default_factory=list
    )  # calls of tools that the question has led to, and what they brought


class Evidence(Struct, frozen=True, omit_defaults=True):
    """Why a passage was found: z-scores over the query's candidates (docs/retrieval.md)."""

    words: float = 0.0  # z(B), BM25 on two levels
    vectors: float = 0.0  # z(S), cosine on two levels
    segment: float = 0.0  # z(m1), best segment against the query
    tokens: float = 0.0  # z(m2), best segment a query token, mean over tokens
    cosine: float = 0.0  # the plain cosine of query and passage, −1…1: not relative to the other candidates


class Passage(Struct, frozen=True, omit_defaults=True):
    """A chunk of a document as it was found for an item."""

    chunk: str  # chunk id: <document>#<ordinal>
    document: str
    title: str
    text: str
    section: str = ""
    clause: str = ""  # for example "4.2"; empty where the section is not numbered
    page: int = 0  # first page, from 1; 0 where the format has no pages
    page_end: int = 0
    score: float = 0.0  # the score of the last step that ordered the passages; higher is better
    evidence: Evidence = Evidence()
    metadata: dict[str, str] = field(default_factory=dict)

    def quote(self, text: str) -> "Quote":
        """Words of this passage, with the place where they stand."""
        return Quote(
            text=text,
            document=self.document,
            title=self.title,
            chunk=self.chunk,
            section=self.section,
            clause=self.clause,
            page=self.page,
        )


class Quote(Struct, frozen=True, omit_defaults=True):
    """A sentence of a passage that supports the answer, and where it stands."""

    text: str
    document: str
    title: str
    chunk: str = ""
    section: str = ""
    clause: str = ""
    page: int = 0


class TokenLogprob(Struct, frozen=True, omit_defaults=True):
    """A token of an answer, and how likely it was; natural logarithms."""

    token: str
    logprob: float
    top: dict[str, float] = field(default_factory=dict)  # the likeliest tokens in its place


class Cached(Struct, frozen=True, omit_defaults=True):
    """That an answer was made for an earlier question, and kept."""

    kind: Literal["exact", "semantic"]
    age_s: float  # since it was made
    similarity: float = 1.0  # cosine of the two questions
    question: str = ""  # the earlier one, where it is not the same


class Answer(Struct, frozen=True, omit_defaults=True):
    """What the user gets."""

    text: str
    mode: Literal["generated", "extractive", "degraded", "refused"] = "generated"
    quotes: list[Quote] = field(default_factory=list)
    data: dict[str, object] | list[object] | None = None  # validated JSON, where the job asked for a schema
    model: str = ""
    prompt: str = ""  # name@version
    finish_reason: Literal["stop", "length", "refused"] = "stop"
    rung: Rung = "primary"  # which rung of the model's ladder gave it; the lowest one where several had a part in it
    why: str = ""  # what was wrong with the models above that rung
    escalate: bool = False  # it answers nothing: a person should look at the question
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    cached: Cached | None = None  # set where no model was asked this time


class Timing(Struct, frozen=True, omit_defaults=True):
    """How long one call took inside its engine, in milliseconds, where the engine says so."""

    first_at: float = 0.0  # unix seconds: when the first token was there
    queue_ms: float = 0.0  # from the engine's queue into a batch
    prefill_ms: float = 0.0  # from there to the first token
    decode_ms: float = 0.0  # from the first token to the last


class Completion(Struct, frozen=True, omit_defaults=True):
    """One sample of a model."""

    text: str
    model: str
    finish_reason: Literal["stop", "length", "refused"] = "stop"
    mode: Literal["generated", "extractive", "degraded", "refused"] = "generated"
    quotes: list[Quote] = field(default_factory=list)
    data: dict[str, object] | list[object] | None = None
    usage: Usage = Usage()
    timing: Timing = Timing()
    rung: Rung = "primary"
    why: str = ""  # what was wrong with the models above that rung
    escalate: bool = False
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What judge found."""

    check: str  # grounding, vote, rubric, critique
    passed: bool
    score: float = 0.0  # 0…1: share of supported sentences, agreement of the vote, rubric score
    findings: list[str] = field(default_factory=list)  # unsupported sentences, lost votes, points of critique
    details: dict[str, float] = field(default_factory=dict)  # score by criterion or vote share by candidate


class Part(Struct, frozen=True, omit_defaults=True):
    """What one child of a scatter brought back for an item: a sample, a section's summary, …"""

    index: int
    text: str = ""
    data: dict[str, object] | list[object] | None = None
    quotes: list[Quote] = field(default_factory=list)
    failure: Failure | None = None
    rung: Rung = "primary"
    why: str = ""


class IndexedDocument(Struct, frozen=True, omit_defaults=True):
    """What ingest made of a document: the result of the pattern `ingest`."""

    id: str
    title: str
    revision: str  # hash of the content: equal content is not indexed twice
    chunks: int
    tokens: int
    pages: int = 0
    unchanged: bool = False


class Keep(Struct, frozen=True, omit_defaults=True):
    """Under what an item's answer may be kept, once it is known and has passed its check."""

    key: str  # hash of the scope and the question
    scope: str  # hash of all but the question that shapes an answer: slip, prompt, model, filters, variables
    version: str  # of the tenant's library when its passages were looked for
    prompt: str = ""  # name@version that the answer must have been made with
    found: str = ""  # hash of the passages that were found
    vector: bytes = b""  # of the question, float16, where near questions may share the answer


class Item(Struct, frozen=True, omit_defaults=True):
    """The unit of work. Steps return changed copies (`msgspec.structs.replace`)."""

    n: int  # place in the job, from 0
    input: Input = Input()
    deadline: float | None = None  # unix seconds
    query: str = ""  # what is searched for, where it differs from the question
    history: list[Message] = field(default_factory=list)  # earlier turns of the session
    messages: list[Message] = field(default_factory=list)  # the rendered prompt
    prompt: str = ""  # name@version of the rendered prompt
    passages: list[Passage] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    part: int = 0  # in a child of a scatter: which part of its parent's item this is
    document: IndexedDocument | None = None
    draft: str = ""  # reflect: what the critique is about
    notes: list[str] = field(default_factory=list)  # a pattern's own memory between decisions
    answer: Answer | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    usage: Usage = Usage()
    session: Usage | None = None  # what all turns of its session have used, this one included
    keep: Keep | None = None

    @property
    def question(self) -> str:
        return self.query or self.input.question

    @property
    def alive(self) -> bool:
        return self.failure is None

    @property
    def at_work(self) -> bool:
        """Whether it takes further steps: one that failed does not, nor one whose answer was kept from before."""
        return self.failure is None and (self.answer is None or self.answer.cached is None)
