"""Turns of tools that come with a question: what is refused, by field, and where they stand in a prompt."""

import msgspec
import pytest
from msgspec.structs import replace

from contracts.item import Answer, Input, Item, Message, Tool, ToolCall, ToolTurn
from contracts.job import Options
from services.memory.domain import messages, turn_of
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import load_prompts
from services.route.domain.render import render
from services.route.domain.submission import read_item
from services.route.domain.turns import MOST
from services.route.domain.window import Window, fitted
from shared.errors import ItemError

PATTERNS, PROMPTS = load_patterns(), load_prompts()
CALL = ToolCall("visits", {"member": "H-1"}, "c1")
OTHER = ToolCall("visits", {"member": "H-2"}, "c2")
ASKED = ToolTurn("assistant", tool_calls=[CALL])
BROUGHT = ToolTurn("tool", "12", tool_call_id="c1")
TOOLS = Options(tools=[Tool("visits")])


def refused(turns: object, pattern: str = "direct") -> str:
    raw = msgspec.json.encode({"question": "How many?", "turns": msgspec.to_builtins(turns)})
    item = read_item(3, raw, PATTERNS.get(pattern), 0.0)
    return "" if item.failure is None else item.failure.reason


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [ASKED, BROUGHT],
        [ToolTurn("assistant", "Let me see.", [CALL, OTHER]), ToolTurn("tool", "3", tool_call_id="c2"), BROUGHT],
        [ASKED, BROUGHT, ToolTurn("assistant", tool_calls=[OTHER]), ToolTurn("tool", "", tool_call_id="c2")],
    ],
)
def test_every_call_with_its_result_is_taken(turns: list[ToolTurn]) -> None:
    assert refused(turns) == ""


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([ASKED], "turns: expected a turn of the role tool for the call 'c1'"),
        ([BROUGHT], "turns[0].role: expected assistant, whose calls come before their results, got 'tool'"),
        ([ASKED, ASKED], "turns[1].role: expected tool, for the call 'c1', got 'assistant'"),
        ([ASKED, BROUGHT, BROUGHT], "turns[2].role: expected assistant"),
        ([ASKED, replace(BROUGHT, tool_call_id="c9")], "turns[1].tool_call_id: expected one of 'c1', got 'c9'"),
        ([ASKED, replace(BROUGHT, tool_call_id="")], "turns[1].tool_call_id: expected one of 'c1', got ''"),
        ([ASKED, replace(BROUGHT, tool_calls=[OTHER])], "turns[1].tool_calls: expected in turns of the role assistant"),
        ([replace(ASKED, tool_call_id="c1"), BROUGHT], "turns[0].tool_call_id: expected in turns of the role tool"),
        ([ToolTurn("assistant", "Hello.")], "turns[0].tool_calls: expected at least one call, got none"),
        ([replace(ASKED, tool_calls=[replace(CALL, id="")])], "turns[0].tool_calls[0].id: expected one of its own"),
        ([replace(ASKED, tool_calls=[CALL, CALL])], "turns[0].tool_calls[1].id: expected one of its own, got 'c1'"),
        ([replace(ASKED, tool_calls=[replace(CALL, name="a b")])], "turns[0].tool_calls[0].name: expected 1 to 64"),
        ([replace(ASKED, tool_calls=[replace(CALL, raw="{")])], "turns[0].tool_calls[0].raw: expected arguments"),
        ([ASKED, BROUGHT] * (MOST // 2 + 1), f"turns: expected at most {MOST}, got {MOST + 2}"),
        ([{"role": "user", "content": "Hello"}], "turns[0].role: invalid enum value 'user'"),
        ([{"role": "tool", "content": 12}], "turns[0].content: expected str, got int"),
        ([{"role": "tool", "id": "c1"}], "turns[0]: object contains unknown field id"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "visits"}}]}],
            "turns[0].tool_calls[0]: object missing required field name",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"name": "visits", "arguments": '{"member":"H-1"}'}]}],
            "turns[0].tool_calls[0].arguments: expected object, got str",
        ),
    ],
)
def test_what_has_no_sense_is_refused_with_its_place(turns: object, reason: str) -> None:
    assert refused(turns).startswith(f"items[3].{reason}")


def test_patterns_that_make_several_prompts_take_none() -> None:
    taking = [pattern.name for pattern in PATTERNS if not refused([ASKED, BROUGHT], pattern.name)]
    assert taking == ["direct", "mixture-of-experts"]
    assert refused([ASKED, BROUGHT], "rag") == "items[3].turns: the pattern 'rag' takes none"


def test_they_stand_behind_the_question() -> None:
    history = [Message("user", "Hello"), Message("assistant", "Hi.")]
    item = Item(n=0, input=Input("How many?", context="A chart.", turns=[ASKED, BROUGHT]), history=history)
    shown = render(item, PROMPTS.get("direct"), TOOLS, 8192).messages
    assert [message.role for message in shown] == ["system", "user", "assistant", "user", "assistant", "tool"]
    assert shown[-2:] == [Message("assistant", "", [CALL]), Message("tool", "12", tool_call_id="c1")]


def test_without_the_tools_they_have_no_sense() -> None:
    item = Item(n=2, input=Input("How many?", turns=[ASKED, BROUGHT]))
    with pytest.raises(ItemError, match=r"items\[2\]\.turns: expected options\.tools, too") as caught:
        render(item, PROMPTS.get("direct"), Options(), 8192)
    assert caught.value.code == "malformed"


def test_tools_and_what_they_brought_count_in_the_window() -> None:
    long = ToolTurn("tool", "row " * 2000, tool_call_id="c1")
    item = Item(n=0, input=Input("How many?", turns=[ASKED, long]))
    with pytest.raises(ItemError, match="the prompt has about"):
        render(item, PROMPTS.get("direct"), TOOLS, 2048)
    wide = Options(tools=[Tool("visits", "word " * 1500)])
    with pytest.raises(ItemError, match="the prompt has about"):
        render(replace(item, input=Input("How many?")), PROMPTS.get("direct"), wide, 2048)


def test_calls_are_left_out_together_with_their_results() -> None:
    """A result without its call is refused by chat templates."""
    history = [
        Message("user", "old " * 200), Message("assistant", "", [CALL]), Message("tool", "12", tool_call_id="c1"),
        Message("assistant", "Twelve."),
    ]  # fmt: skip
    item = Item(n=0, history=history)
    seen = fitted(item, Window(100, lambda one: [*one.history, Message("user", "And now?")]))
    assert seen.item.history == history[3:]
    assert seen.left_out == 3


def test_a_session_remembers_a_question_once_with_the_calls_that_it_led_to() -> None:
    first = turn_of(Item(n=0, input=Input("How many?"), answer=Answer("", tool_calls=[CALL])))
    second = turn_of(Item(n=0, input=Input("How many?", turns=[ASKED, BROUGHT]), answer=Answer("Twelve.")))
    assert first is not None
    assert second is not None
    assert messages([first, second]) == [
        Message("user", "How many?"),
        Message("assistant", "", [CALL]),
        Message("tool", "12", tool_call_id="c1"),
        Message("assistant", "Twelve."),
    ]
