"""What an engine gets and gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from contracts.item import Completion, Item, Message, Passage, Quote, Tool, Usage
from contracts.job import Lane
from contracts.steps import Generate
from services.generate_gpu.domain.refusal import REFUSAL
from services.generate_gpu.domain.salt import salt
from shared.errors import ItemError, Later, Retryable

BROKEN_OFF = frozenset(("abort", "error"))
"""Finish reasons of half an answer: its engine was told to end, or failed, with the model in the middle of it."""


class OnDelta(Protocol):
    """Takes a piece of the answer as it is made: each is a sign that the model is at work."""

    async def __call__(self, text: str, tokens: int = 0, /) -> None:
        """`text` is empty where the piece is none of the text, but of a tool's call, or a thought. `tokens` is how many
        tokens the piece has; 0 where the engine does not say."""


OnBegin = Callable[[], None]
"""Hears that a call begins. What an engine waits for before that is not the model's time, and costs nothing."""


def unheard() -> None:
    """Nobody asks when a call begins."""


class CompletionRequest(Struct, frozen=True):
    """One call. Chat models read `messages`, the extractive reader `question` and `passages`."""

    messages: list[Message]
    question: str = ""
    passages: list[Passage] = field(default_factory=list)
    n: int = 1
    temperature: float = 0.0
    max_tokens: int = 512
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    logprobs: int = 0
    tools: list[Tool] = field(default_factory=list)
    tool_choice: str = ""  # auto (as if empty), none, required, or a tool's name
    schema: dict[str, object] | None = None
    batch: bool = False  # nobody sits and waits for it
    final: bool = True  # the answer goes to whoever asked: no other step makes something of its text
    salt: str = ""  # what an engine's prefix cache is told apart by; derived here, never taken from a client

    @property
    def forces_call(self) -> bool:
        """Whether the model has to call a tool."""
        return self.tool_choice not in ("", "auto", "none")


class Away(Later):
    """The model comes back by itself, as its engine is started again or its limit has room again; another rung may
    answer meanwhile, else the item waits."""


class Engine(Protocol):
    """Completes messages. Safe to call many times at once."""

    @property
    def paid(self) -> bool:
        """Whether a call costs money, so that a redelivered shard must not repeat it."""

    @property
    def instant(self) -> bool:
        """Whether it answers without waiting for anything, so that nobody needs to watch over it."""

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """One to `n` completions; the first carries the usage of the call. `on_delta` gets the text of the first,
        `on_begin` is called once, when the model is handed the request.

        Raises Retryable where it may go better later, ItemError where it will not.
        """

    async def close(self) -> None:
        """Let go of connections and threads."""


@dataclass(frozen=True)
class Around:
    """Looks like the engine; whoever builds on it does something about its calls."""

    engine: Engine

    @property
    def paid(self) -> bool:
        return self.engine.paid

    @property
    def instant(self) -> bool:
        return self.engine.instant

    async def close(self) -> None:
        """The engine is not ours to close."""


@contextmanager
def costing(usage: Usage) -> Iterator[None]:
    """An answer that is no use has cost all the same."""
    try:
        yield
    except (ItemError, Retryable) as error:
        error.usage = usage
        raise


@runtime_checkable
class Starting(Protocol):
    """An engine that takes a while to start."""

    async def start(self) -> None:
        """Be ready for calls. Raises Retryable where it cannot."""


@runtime_checkable
class Keeping(Protocol):
    """An engine that keeps what it has computed of prompts."""

    async def warm(self, request: CompletionRequest) -> None:
        """Compute the messages, so that prompts that begin with them find that done. Raises as `complete` does."""

    def ready(self) -> bool:
        """Whether it takes calls. One that has died begins to be started again, and has lost all that it kept."""


def request_for(item: Item, step: Generate, lane: Lane, tenant: str = "", *, final: bool = True) -> CompletionRequest:
    """What an item asks of an engine at this step; `final`: no other step makes something of the text."""
    return CompletionRequest(
        messages=item.messages,
        question=item.question,
        passages=sources(item),
        n=step.n,
        temperature=step.temperature,
        max_tokens=step.max_tokens,
        stop=step.stop,
        seed=None if step.seed is None else step.seed + item.part,  # samples of a scatter are to differ
        logprobs=step.logprobs,
        tools=step.tools,
        tool_choice=step.tool_choice,
        schema=step.schema,
        batch=lane == "batch",
        final=final,
        salt=salt(tenant, item.prompt),
    )


def sources(item: Item) -> list[Passage]:
    """What a reader may quote: the passages that were found, else what the parts brought, else the given context."""
    if item.passages:
        return item.passages
    if item.parts:
        return _of_parts(item)
    if not item.input.context:
        return []
    document = item.input.document
    title = document.title or document.name if document is not None else "context"
    return [Passage(chunk=f"context#{item.part}", document="context", title=title, text=item.input.context)]


def _of_parts(item: Item) -> list[Passage]:
    """The quotes of the parts keep their places in the document; a part without quotes stands for itself."""
    found: list[Passage] = []
    for part in item.parts:
        own = Passage(chunk=f"part#{part.index}", document="parts", title=f"part {part.index + 1}", text=part.text)
        found += [_quoted(quote, own) for quote in part.quotes]
        if part.failure is None and part.text and not part.quotes and not refuses(part.text):
            found.append(own)
    return found


def _quoted(quote: Quote, part: Passage) -> Passage:
    return Passage(
        chunk=quote.chunk or part.chunk,
        document=quote.document,
        title=quote.title,
        text=quote.text,
        section=quote.section,
        clause=quote.clause,
        page=quote.page,
    )


def refuses(text: str) -> bool:
    """Whether a text says nothing but that the documents do not answer."""
    said = " ".join(text.lower().split()).strip(" .\"'*")
    return said == REFUSAL.lower().rstrip(".")
