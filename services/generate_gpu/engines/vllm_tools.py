"""Calls of tools in a vLLM model's text, read by vLLM's own parser for this family of models."""

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from contracts.item import Tool, ToolCall
from services.generate_gpu.domain.tools import as_openai, tool_call
from shared.errors import ItemError
from shared.models import Model
from shared.settings import SettingsError

if TYPE_CHECKING:
    from vllm.tokenizers import TokenizerLike

Reader = Callable[[str], tuple[str, list[ToolCall]]]


def reader(tokenizer: "TokenizerLike", parser: str, tools: Sequence[Tool]) -> Reader:
    """Reads one text after the other into what is said and what is called; a parser of vLLM reads only one.

    Raises ItemError where the parser is one for other models.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    asked: Any = ChatCompletionRequest.model_validate({"messages": [], "tools": as_openai(tools)})
    kind = ToolParserManager.get_tool_parser(parser)
    try:
        kind(tokenizer, asked.tools)
    except RuntimeError as error:
        reason = f"models.yaml: tools: the parser {parser!r} does not fit the model: {error}"
        raise ItemError("upstream", reason) from None

    def read(text: str) -> tuple[str, list[ToolCall]]:
        found = kind(tokenizer, asked.tools).extract_tool_calls(text, request=asked)
        if not found.tools_called:
            return text, []
        calls = [tool_call(call.function.name, call.function.arguments, call.id) for call in found.tool_calls]
        return found.content or "", calls

    return read


def forced(tools: Sequence[Tool], choice: str) -> dict[str, Any]:
    """The schema of what a model says that has to call a tool: its arguments; a list of calls where any will do."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers.utils import get_json_schema_from_tools

    named: Any = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    asked: Any = {"messages": [], "tools": as_openai(tools), "tool_choice": named}
    request = ChatCompletionRequest.model_validate(asked)
    schema: Any = get_json_schema_from_tools(request.tool_choice, request.tools)
    return dict(schema)


def forced_reader(choice: str) -> Reader:
    """Reads what was said in that form; what was cut off is a call that nobody can make."""

    def read(text: str) -> tuple[str, list[ToolCall]]:
        if choice != "required":
            return "", [tool_call(choice, text, new_id())]
        try:
            calls = msgspec.json.decode(text, type=list[_Called])
        except (msgspec.MsgspecError, RecursionError):
            return "", [ToolCall("", id=new_id(), raw=text)]
        return "", [ToolCall(call.name, call.parameters, new_id()) for call in calls]

    return read


class _Called(msgspec.Struct):
    """A call as `forced` describes it."""

    name: str
    parameters: dict[str, object] = {}


def new_id() -> str:
    """The name of a call; what it brings comes back under it."""
    return f"call-{uuid.uuid4().hex}"


def untouched(text: str) -> tuple[str, list[ToolCall]]:
    """For requests without tools."""
    return text, []


def check_parsers(models: Sequence[Model]) -> None:
    """Raises SettingsError where the catalogue names a parser that vLLM does not have."""
    from vllm.tool_parsers import ToolParserManager

    for model in models:
        if not model.tools:
            continue
        try:
            ToolParserManager.get_tool_parser(model.tools)
        except KeyError:
            reason = f"vLLM has no parser of this name for calls of tools: {model.tools!r}"
            raise SettingsError(f"models.yaml: model {model.name!r}: tools: {reason}") from None
