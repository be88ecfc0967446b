"""The OpenAI form of chat completions: the request's body, the answer's Structs, the lines of a stream."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal

from msgspec import Struct, field

from contracts.item import TokenLogprob, ToolCall
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.tools import as_openai, as_turns, tool_call
from shared.models import Model

Finish = Literal["stop", "length", "refused"]


class Details(Struct, frozen=True):
    cached_tokens: int | None = None


class Tokens(Struct, frozen=True):
    """`usage`; cached tokens are part of the prompt tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0


class Function(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class Call(Struct, frozen=True):
    """A call of a tool; in a stream a piece of one, whose `index` says of which."""

    function: Function = Function()
    id: str | None = None
    index: int = 0


class Alternative(Struct, frozen=True):
    token: str
    logprob: float


class Token(Struct, frozen=True):
    token: str
    logprob: float
    top_logprobs: list[Alternative] = field(default_factory=list)


class Logprobs(Struct, frozen=True):
    content: list[Token] | None = None

    @property
    def tokens(self) -> list[TokenLogprob]:
        return [
            TokenLogprob(one.token, one.logprob, {other.token: other.logprob for other in one.top_logprobs})
            for one in self.content or ()
        ]


class Text(Struct, frozen=True):
    """`message` or `delta`."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    reasoning_content: object = None  # thoughts, which are no part of the answer …
    reasoning: object = None  # … as other servers call them

    @property
    def at_work(self) -> bool:
        """Whether the model has said anything; a first piece may only say who speaks."""
        return bool(self.text or self.tool_calls or self.reasoning_content or self.reasoning)

    @property
    def calls(self) -> list[ToolCall]:
        return [_call([call]) for call in self.tool_calls or ()]

    @property
    def text(self) -> str:
        return self.content or self.refusal or ""


class Choice(Struct, frozen=True):
    message: Text
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def finish(self) -> Finish:
        return finish(self.finish_reason, self.message.refusal) or "stop"


class Reply(Struct, frozen=True):
    choices: list[Choice]
    usage: Tokens | None = None


class Delta(Struct, frozen=True):
    delta: Text = Text()
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Fault(Struct, frozen=True):
    message: str = ""
    code: str | int | None = None
    type: str | None = None


class Chunk(Struct, frozen=True):
    """One event of a stream; the last one before the end has the usage and no choices."""

    choices: list[Delta] = field(default_factory=list)
    usage: Tokens | None = None
    error: Fault | None = None


def joined(pieces: Sequence[Call]) -> list[ToolCall]:
    """The calls of a stream from their pieces."""
    by_index: dict[int, list[Call]] = {}
    for piece in pieces:
        by_index.setdefault(piece.index, []).append(piece)
    return [_call(some) for some in by_index.values()]


def _call(pieces: Sequence[Call]) -> ToolCall:
    return tool_call(
        "".join(piece.function.name or "" for piece in pieces),
        "".join(piece.function.arguments or "" for piece in pieces),
        next((piece.id for piece in pieces if piece.id), ""),
    )


def finish(reason: str | None, refusal: str | None) -> Finish | None:
    """None where the answer is not finished."""
    if reason == "content_filter" or (reason is not None and refusal):
        return "refused"
    if reason == "length":
        return "length"
    return None if reason is None else "stop"


def body(request: CompletionRequest, model: Model, *, stream: bool) -> dict[str, object]:
    """The request, without the fields that would only repeat an endpoint's defaults."""
    content: dict[str, object] = {
        "model": model.id,
        "messages": as_turns(request.messages, arguments_as_text=True),
        "temperature": request.temperature,
        model.max_tokens_as: request.max_tokens,
    }
    if request.n > 1:
        content["n"] = request.n
    if request.stop:
        content["stop"] = request.stop
    if request.seed is not None:
        content["seed"] = request.seed
    if request.logprobs:
        content |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.tools:
        content["tools"] = as_openai(request.tools)
    if request.tools and request.tool_choice not in ("", "auto"):
        content["tool_choice"] = _choice(request.tool_choice)
    if model.cache_salt and request.salt:
        content["cache_salt"] = request.salt
    if stream:
        content |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.schema is not None and model.structured == "json_schema":
        answer = {"name": "answer", "schema": request.schema}
        content["response_format"] = {"type": "json_schema", "json_schema": answer}
    elif request.schema is not None and model.structured == "json_object":
        content["response_format"] = {"type": "json_object"}
    return content


def _choice(choice: str) -> object:
    return choice if choice in ("none", "required") else {"type": "function", "function": {"name": choice}}


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each server-sent event.

    Cut at line feeds only: httpx's own line reader also cuts at separators that may stand inside JSON.
    """
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()
