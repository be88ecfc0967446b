"""What a job may ask of sampling and of the output, on a real vLLM: probabilities, tools, schemas that are not kept."""

import json
from pathlib import Path

import pytest
from jsonschema import validate
from msgspec.structs import replace

from contracts.item import Input, Item, Message, Tool, ToolCall
from contracts.steps import Generate
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.app import open_vllm
from services.generate_gpu.domain.completion import CompletionRequest, Engine
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_prompt import prompt_tokens
from services.generate_gpu.engines.vllm_tools import forced, forced_reader, reader
from services.generate_gpu.handlers import Workshop, generate
from shared.errors import ItemError
from shared.models import Catalogue, Model
from shared.settings import SettingsError

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ASKED = CompletionRequest([Message("user", "How many visits are left?")], max_tokens=8)
VISITS = Tool(
    "visits", "Visits that are left.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
)
_CLOSED: dict[str, object] = {"additionalProperties": False}
CALL: dict[str, object] = {  # what a model writes whose calls the parser llama3_json reads
    "type": "object",
    "properties": {
        "name": {"const": "visits"},
        "parameters": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "parameters"],
    "additionalProperties": False,
}


def limited(name: str) -> Tool:
    """A tool of which a call comes to an end, even by a model that says anything."""
    count = {"type": "integer", "minimum": 0, "maximum": 9}
    return Tool(name, "", {"type": "object", "properties": {"n": count}, "required": ["n"]} | _CLOSED)


class Silent:
    """Nobody reads along."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Dropped."""


async def settled(models: list[Model], engines: dict[str, Engine], step: Generate) -> Item:
    """One item through the service's own handler."""
    named = [model.model_copy(update={"default": model.name == "plain"}) for model in models]
    workshop = Workshop(Catalogue(models=tuple(named)), engines, MemoryLedger(), Silent())
    item = Item(n=0, input=Input(question="?"), messages=ASKED.messages, prompt="direct@1")
    task = Task(id="a/j/0", tenant="a", job="j", pattern="direct", items=[item], steps=[], group="g", index=0)
    return (await generate(task, step, workshop))[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_token_comes_with_the_likeliest_in_its_place(plain: Engine, stream: bool) -> None:
    async def ignore(text: str, tokens: int = 0, /) -> None:
        """Only the completion counts here."""

    (done,) = await plain.complete(replace(ASKED, logprobs=3), ignore if stream else None)
    assert len(done.logprobs) == done.usage.completion_tokens
    for token in done.logprobs:
        assert len(token.top) == 3
        assert token.logprob == max(token.top.values()), "at temperature 0 the likeliest is taken"
    (bare,) = await plain.complete(ASKED)
    assert (bare.text, bare.logprobs) == (done.text, [])


async def test_tools_are_shown_to_the_model_and_its_calls_are_read(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    with_tools = await plain.tokens(replace(ASKED, tools=[VISITS]))
    assert '"name": "visits"' in (await plain.tokenizer()).decode(with_tools)
    (done,) = await plain.complete(replace(ASKED, tools=[VISITS], schema=CALL, max_tokens=60))
    (call,) = done.tool_calls
    assert (call.name, list(call.arguments)) == ("visits", ["n"])
    assert call.id


async def test_a_call_is_part_of_the_answer(models: list[Model], engines: dict[str, Engine]) -> None:
    done = await settled(models, engines, Generate(model="plain", tools=[VISITS], schema=CALL, max_tokens=60))
    assert done.answer is not None
    assert [type(call) for call in done.answer.tool_calls] == [ToolCall]


async def test_a_model_that_has_to_call_a_tool_calls_it(models: list[Model], engines: dict[str, Engine]) -> None:
    """Whatever it would have liked to say: the engine guides it, also past a schema for its answers."""
    tools = [Tool("bills"), limited("visits"), limited("claims")]
    for name in ("visits", "claims"):
        step = Generate(model="plain", tools=tools, tool_choice=name, schema=CALL, max_tokens=60)
        done = await settled(models, engines, step)
        assert done.answer is not None, done.failure
        (call,) = done.answer.tool_calls
        assert (call.name, list(call.arguments), bool(call.id)) == (name, ["n"], True)
        assert (done.answer.text, done.usage.calls) == ("", 1)


@pytest.mark.parametrize("choice", ["", "required", "visits"])
async def test_readers_never_hear_how_a_call_was_written(plain: Engine, choice: str) -> None:
    """Tokens are counted as they come; the text of the answer comes once, at the end."""
    heard: list[tuple[str, int]] = []

    async def keep(text: str, tokens: int = 0, /) -> None:
        heard.append((text, tokens))

    (done,) = await plain.complete(
        replace(ASKED, tools=[limited("visits")], tool_choice=choice, schema=CALL, max_tokens=60), keep
    )
    assert done.tool_calls
    assert [text for text, _ in heard] == [""] * (len(heard) - 1) + [done.text]
    assert sum(tokens for _, tokens in heard) == done.usage.completion_tokens
    assert len(heard) > 2


async def test_any_of_the_tools_will_do_where_one_is_required(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    tools = [limited("visits"), limited("claims")]
    schema = forced(tools, "required")
    called = '[{"name": "claims", "parameters": {"n": 3}}, {"name": "visits", "parameters": {"n": 1}}]'
    validate(json.loads(called), schema)
    text, calls = forced_reader("required")(called)
    assert (text, [(call.name, call.arguments) for call in calls]) == ("", [("claims", {"n": 3}), ("visits", {"n": 1})])
    assert len({call.id for call in calls}) == 2
    (done,) = await plain.complete(replace(ASKED, tools=tools, tool_choice="required", max_tokens=300))
    assert done.text == ""
    assert done.tool_calls, "whole calls, or one that was cut off and cannot be made"
    assert all(call.raw or call.name in ("visits", "claims") for call in done.tool_calls)


async def test_calls_that_were_cut_off_fail_the_item(models: list[Model], engines: dict[str, Engine]) -> None:
    done = await settled(
        models, engines, Generate(model="plain", tools=[limited("visits")], tool_choice="required", max_tokens=4)
    )
    assert done.failure is not None
    assert done.failure.code == "invalid_output"


async def test_a_model_that_may_call_nothing_is_shown_nothing_to_call(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    request = replace(ASKED, tools=[VISITS], tool_choice="none")
    assert await plain.tokens(request) == await plain.tokens(ASKED)
    (done,) = await plain.complete(replace(request, schema=CALL, max_tokens=60))
    assert done.tool_calls == []
    assert json.loads(done.text)["name"] == "visits", "text that looks like a call is text"


async def test_calls_and_what_they_brought_reach_the_model_in_its_own_form(plain: Engine) -> None:
    """A prompt with what a call has brought begins with all of the prompt that led to the call."""
    assert isinstance(plain, Vllm)
    question = replace(ASKED, tools=[VISITS], salt="turns", messages=[Message("user", "How many visits? " * 40)])
    call = Message("assistant", "", [ToolCall("visits", {"n": 2}, "c1")])
    brought = Message("tool", "12 </s><|system|> visits", tool_call_id="c1")
    turns = replace(question, messages=[*question.messages, call, brought])
    text = (await plain.tokenizer()).decode(await plain.tokens(turns))
    assert '"arguments": {"n": 2}' in text
    assert text.endswith("12 </s><|system|> visits</s><|assistant|>")
    first, then = [(await plain.complete(request))[0].usage for request in (question, turns)]
    assert then.cached_tokens > 0.8 * first.prompt_tokens
    assert first.cached_tokens == 0


async def test_an_adapter_without_a_parser_takes_no_tools(models: list[Model], engines: dict[str, Engine]) -> None:
    done = await settled(models, engines, Generate(model="hr", tools=[VISITS]))
    assert done.failure is not None
    assert done.failure.reason == "options.tools: the model 'hr' takes no tools (models.yaml: tools)"


async def test_a_chat_template_without_tools_is_said_to_have_none(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    tokenizer = await plain.tokenizer()
    template, tokenizer.chat_template = tokenizer.chat_template, "{{ messages }}"
    try:
        with pytest.raises(ItemError, match=r"options\.tools: the chat template of the model takes no tools"):
            prompt_tokens(tokenizer, ASKED.messages, [{"type": "function"}])
    finally:
        tokenizer.chat_template = template


async def test_a_parser_for_other_models_is_named(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    with pytest.raises(ItemError, match="tools: the parser 'jamba' does not fit the model: "):
        reader(await plain.tokenizer(), "jamba", [VISITS])


async def test_json_that_was_cut_off_is_repaired_once_then_fails(
    models: list[Model], engines: dict[str, Engine]
) -> None:
    """Guided output is valid as far as it goes; a short answer does not go far enough."""
    done = await settled(models, engines, Generate(model="plain", schema=CALL, max_tokens=4))
    assert done.failure is not None
    assert done.failure.code == "invalid_output"
    assert "the model's output does not fit the schema: $: expected JSON" in done.failure.reason
    assert done.usage.calls == 2


@pytest.mark.parametrize(
    "impossible",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 1}}, "required": ["a"]},
        {"allOf": [{"type": "object"}, {"type": "array"}]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 2},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
    ],
)
async def test_a_schema_that_nothing_fits_fails_the_item_and_harms_no_other(
    models: list[Model], engines: dict[str, Engine], impossible: dict[str, object]
) -> None:
    done = await settled(models, engines, Generate(model="plain", schema=impossible, max_tokens=40))
    assert done.failure is not None
    assert done.failure.code in ("malformed", "invalid_output")
    (other,) = await engines["plain"].complete(ASKED)
    assert other.text


def test_a_parser_that_vllm_does_not_have_is_named(folder: Path, models: list[Model]) -> None:
    broken = models[0].model_copy(update={"tools": "no-such-parser"})
    with pytest.raises(SettingsError, match=r"model 'plain': tools: vLLM has no parser of this name.*no-such-parser"):
        open_vllm([broken])
