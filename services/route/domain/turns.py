"""Turns of tools that come with a question: every call has its result, and nothing else stands between them."""

from collections.abc import Sequence

from contracts.item import Message, ToolTurn
from contracts.subjects import TOKEN

MOST = 64


def check_turns(turns: Sequence[ToolTurn]) -> str | None:
    """What is wrong with them, as `turns[2].field: expected …, got …`; None where nothing is."""
    if len(turns) > MOST:
        return f"turns: expected at most {MOST}, got {len(turns)}"
    waiting: list[str] = []  # calls without a result so far
    for n, turn in enumerate(turns):
        wrong = _result(turn, waiting) if waiting else _calls(turn)
        if wrong is not None:
            return f"turns[{n}].{wrong}"
        if turn.role == "tool":
            waiting.remove(turn.tool_call_id)
        else:
            waiting = [call.id for call in turn.tool_calls]
    return f"turns: expected a turn of the role tool for the call {waiting[0]!r}" if waiting else None


def as_messages(turns: Sequence[ToolTurn]) -> list[Message]:
    """The turns as a model reads them, behind the question."""
    return [Message(turn.role, turn.content, turn.tool_calls, turn.tool_call_id) for turn in turns]


def _calls(turn: ToolTurn) -> str | None:
    if turn.role != "assistant":
        return f"role: expected assistant, whose calls come before their results, got {turn.role!r}"
    if turn.tool_call_id:
        return "tool_call_id: expected in turns of the role tool only"
    if not turn.tool_calls:
        return "tool_calls: expected at least one call, got none"
    ids: set[str] = set()
    for n, call in enumerate(turn.tool_calls):
        if not call.id or call.id in ids:
            return f"tool_calls[{n}].id: expected one of its own, got {call.id[:80]!r}"
        if not TOKEN.match(call.name):
            return f"tool_calls[{n}].name: expected 1 to 64 letters, digits, - and _, got {call.name[:80]!r}"
        if call.raw:
            return f"tool_calls[{n}].raw: expected arguments instead"
        ids.add(call.id)
    return None


def _result(turn: ToolTurn, waiting: Sequence[str]) -> str | None:
    if turn.role != "tool":
        return f"role: expected tool, for the call {waiting[0]!r}, got {turn.role!r}"
    if turn.tool_calls:
        return "tool_calls: expected in turns of the role assistant only"
    if turn.tool_call_id not in waiting:
        known = ", ".join(map(repr, waiting))
        return f"tool_call_id: expected one of {known}, got {turn.tool_call_id[:80]!r}"
    return None
