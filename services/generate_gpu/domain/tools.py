"""Calls of tools: read from what a model wrote, and checked against what it was offered."""

from collections.abc import Sequence

import msgspec

from contracts.item import Completion, Message, Tool, ToolCall
from services.generate_gpu.domain.output import Invalid, expectation
from shared.errors import ItemError
from shared.schema_check import Uncheckable, mismatch, unfetching


def tool_call(name: str, arguments: str, id: str = "") -> ToolCall:
    """A call whose arguments a model wrote as JSON."""
    try:
        return ToolCall(name, msgspec.json.decode(arguments or "{}", type=dict[str, object]), id)
    except (msgspec.MsgspecError, RecursionError):
        return ToolCall(name, id=id, raw=arguments)


def as_openai(tools: Sequence[Tool]) -> list[dict[str, object]]:
    """The form that endpoints and chat templates take."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def as_turns(messages: Sequence[Message], *, arguments_as_text: bool) -> list[dict[str, object]]:
    """Messages in the form that endpoints take; chat templates want a call's arguments as they are, not as text."""
    return [_turn(message, arguments_as_text) for message in messages]


def checked_calls(completion: Completion, tools: Sequence[Tool], choice: str = "") -> Completion | Invalid:
    """The completion, where all its calls are of tools that were offered (and chosen), with arguments that fit."""
    offered = {tool.name: tool for tool in tools if choice in ("", "auto", "required", tool.name)}
    if not completion.tool_calls:
        return Invalid("$.tool_calls", f"expected a call of {' or '.join(offered)}, got none")
    if not offered:
        return Invalid("$.tool_calls", f"expected none, got a call of {completion.tool_calls[0].name[:80]!r}")
    for n, call in enumerate(completion.tool_calls):
        wrong = _wrong(call, offered.get(call.name), f"$.tool_calls[{n}]", list(offered))
        if wrong is not None:
            return wrong
    return completion


def spoken(completion: Completion) -> str:
    """What the model said, calls included, as text for the one repair."""
    calls = [
        f"{call.name}({call.raw or msgspec.json.encode(call.arguments).decode()})" for call in completion.tool_calls
    ]
    return "\n".join([completion.text, *calls]).strip()


def _turn(message: Message, arguments_as_text: bool) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, arguments_as_text) for call in message.tool_calls]
    return turn


def _call(call: ToolCall, arguments_as_text: bool) -> dict[str, object]:
    arguments = msgspec.json.encode(call.arguments).decode() if arguments_as_text else call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _wrong(call: ToolCall, tool: Tool | None, where: str, names: Sequence[str]) -> Invalid | None:
    if tool is None:
        return Invalid(f"{where}.name", f"expected one of {', '.join(names)}, got {call.name[:80]!r}")
    if call.raw:
        return Invalid(f"{where}.arguments", f"expected a JSON object, got {call.raw[:160]!r}")
    try:
        wrong = mismatch(unfetching(tool.parameters), call.arguments)
    except Uncheckable as error:
        raise ItemError("malformed", f"options.tools: {tool.name}.parameters: {error}") from None
    if wrong is None:
        return None
    return Invalid(f"{where}.arguments{wrong.json_path.removeprefix('$')}", expectation(wrong))
