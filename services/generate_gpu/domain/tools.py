"""Calls of tools: read from what a model wrote, and checked against what it was offered."""

from collections.abc import Sequence

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from contracts.item import Completion, Tool, ToolCall
from services.generate_gpu.domain.output import Invalid, expectation
from shared.errors import ItemError


def tool_call(name: str, arguments: str, id: str = "") -> ToolCall:
    """A call whose arguments a model wrote as JSON."""
    try:
        return ToolCall(name, msgspec.json.decode(arguments or "{}", type=dict[str, object]), id)
    except msgspec.MsgspecError:
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


def checked_calls(completion: Completion, tools: Sequence[Tool]) -> Completion | Invalid:
    """The completion, where all its calls are of tools that were offered, with arguments that fit their schemas."""
    offered = {tool.name: tool for tool in tools}
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


def _wrong(call: ToolCall, tool: Tool | None, where: str, names: Sequence[str]) -> Invalid | None:
    if tool is None:
        return Invalid(f"{where}.name", f"expected one of {', '.join(names)}, got {call.name[:80]!r}")
    if call.raw:
        return Invalid(f"{where}.arguments", f"expected a JSON object, got {call.raw[:160]!r}")
    try:
        mismatch = best_match(Draft202012Validator(tool.parameters, registry=Registry()).iter_errors(call.arguments))
    except Unresolvable as unresolvable:
        reason = f"options.tools: {tool.name}.parameters: cannot resolve {unresolvable.ref!r}"
        raise ItemError("malformed", reason) from None
    if mismatch is None:
        return None
    return Invalid(f"{where}.arguments{mismatch.json_path.removeprefix('$')}", expectation(mismatch))
