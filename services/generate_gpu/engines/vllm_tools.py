"""Calls of tools in a vLLM model's text, read by vLLM's own parser for this family of models."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
