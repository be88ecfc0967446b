"""The steps of a slip: each is one thing that one service does to the items of a task.

The class says which service takes it; `subjects.work_subject` says where to publish it.
"""

from typing import ClassVar, Literal

from msgspec import Struct, field

from contracts.item import Tool

Merge = Literal["parts", "items", "report"]


class Step(Struct, frozen=True, tag_field="do", tag=str.lower, omit_defaults=True):
    """Base of all steps; on the wire the tag `do` names the class in lower case."""

    service: ClassVar[str] = ""


class Parse(Step, frozen=True):
    """Read a document into chunks and log them to DOCUMENTS."""

    service: ClassVar[str] = "ingest"


class Sections(Step, frozen=True):
    """Read a document (or the input's context) into sections that fit a prompt; `over` names what a Scatter spreads."""

    service: ClassVar[str] = "ingest"
    tokens: int = 1000


class Index(Step, frozen=True):
    """Make a parsed document findable."""

    service: ClassVar[str] = "retrieve"


class Retrieve(Step, frozen=True):
    """Find the best passages of the tenant's documents."""

    service: ClassVar[str] = "retrieve"
    top: int = 30
    cache: str = ""  # set by route: prompt and hash of what else shapes answers; empty: they are not kept


class Rerank(Step, frozen=True):
    """Order the passages anew and keep the best."""

    service: ClassVar[str] = "rerank"
    top: int = 5


class Render(Step, frozen=True):
    """Choose a model and render a prompt into messages."""

    service: ClassVar[str] = "route"
    prompt: str
    model: str = ""  # empty: the job's option, else the catalogue's default


class Decide(Step, frozen=True):
    """Ask the pattern which steps come next, item by item."""

    service: ClassVar[str] = "route"


class Scatter(Step, frozen=True):
    """Spread each item into children that walk `slip`, and go on when all are back.

    `samples`: `n` copies, which differ by their part number. `parts`: one child for each of the item's parts.
    """

    service: ClassVar[str] = "route"
    slip: list["AnyStep"]
    over: Literal["samples", "parts"] = "samples"
    n: int = 1


class Join(Step, frozen=True):
    """Gather the children of a group and go on with the parked parent."""

    service: ClassVar[str] = "route"
    group: str


class Open(Step, frozen=True):
    """Publish more shards of a large job: so many have arrived as its `mark` says."""

    service: ClassVar[str] = "route"
    group: str
    mark: int


class Expire(Step, frozen=True):
    """Fail what is still missing in a group: its deadline has passed."""

    service: ClassVar[str] = "route"
    group: str


class Report(Step, frozen=True):
    """Write the report of a job whose shards have all arrived."""

    service: ClassVar[str] = "route"


class Generate(Step, frozen=True):
    """Complete the messages with a model."""

    service: ClassVar[str] = "generate"
    model: str = ""  # set by route when it renders
    n: int = 1
    temperature: float = 0.0
    max_tokens: int = 512
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    logprobs: int = 0  # so many of the likeliest tokens in each place
    tools: list[Tool] = field(default_factory=list)  # what the model may ask to have called
    tool_choice: str = ""  # auto (as if empty), none, required, or the name of the tool that it has to call
    schema: dict[str, object] | None = None  # JSON Schema that the output must fit
    stream: bool = False
    replica: str = ""  # set by route: who holds the beginning of the prompt; empty: whoever is free
    prefix: str = ""  # what route calls that beginning, within its tenant


class Judge(Step, frozen=True):
    """Check, vote or pick.

    `grounding`: every sentence of the answer is supported by a passage. `vote`: element-wise majority of the
    completions or parts. `rubric`: score each completion and keep the best. `critique`: read the verdict that the
    model wrote about a draft.
    """

    service: ClassVar[str] = "judge"
    check: Literal["grounding", "vote", "rubric", "critique"] = "grounding"
    rubric: str = ""  # name of a rubric file, for `rubric`
    key: str = ""  # for `vote`: the field of the JSON answer that holds the votes


class Recall(Step, frozen=True):
    """Bring the last turns of the session into the item."""

    service: ClassVar[str] = "memory"
    turns: int = 20


class Remember(Step, frozen=True):
    """Append question and answer to the session."""

    service: ClassVar[str] = "memory"


AnyStep = (
    Parse
    | Sections
    | Index
    | Retrieve
    | Rerank
    | Render
    | Decide
    | Scatter
    | Join
    | Open
    | Expire
    | Report
    | Generate
    | Judge
    | Recall
    | Remember
)
