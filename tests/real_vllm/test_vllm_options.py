"""What a job may ask of sampling and of the output, on a real vLLM: probabilities, tools, schemas that are not kept."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from contracts.item import Input, Item, Message, Tool, ToolCall
from contracts.steps import Generate
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.app import open_vllm
from services.generate_gpu.domain.completion import CompletionRequest, Engine
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_prompt import prompt_tokens
from services.generate_gpu.engines.vllm_tools import reader
from services.generate_gpu.handlers import Workshop, generate
from shared.errors import ItemError
from shared.models import Catalogue, Model
from shared.settings import SettingsError

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(240)]

ASKED = CompletionRequest([Message("user", "How many visits are left?")], max_tokens=8)
VISITS = Tool(
    "visits", "Visits that are left.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
)
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
