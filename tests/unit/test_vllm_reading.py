"""What goes into a vLLM model and what comes out of it, whatever people or models write, as far as it needs no vLLM."""

from typing import Any

import pytest

from contracts.item import Message
from services.generate_gpu.engines.vllm_prompt import prompt_tokens
from services.generate_gpu.engines.vllm_tools import forced_reader
from shared.errors import ItemError

DEEP = '[{"name": "visits", "parameters": {"n": ' + "[" * 100_000


@pytest.mark.parametrize("choice", ["required", "visits"])
def test_calls_that_are_nested_too_deep_are_calls_that_nobody_can_make(choice: str) -> None:
    text, calls = forced_reader(choice)(DEEP)
    assert (text, [(call.arguments, call.raw) for call in calls]) == ("", [({}, DEEP)])


class Refusing:
    """A tokenizer whose chat template does what it cannot."""

    all_special_tokens: tuple[str, ...] = ()

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def apply_chat_template(self, turns: list[dict[str, object]], **how: object) -> list[int]:
        return [len(turns[0]["content"]) + None]  # type: ignore[arg-type,operator]  # this is what goes wrong


def test_a_chat_template_that_fails_in_its_own_way_fails_the_item() -> None:
    tokenizer: Any = Refusing()
    with pytest.raises(ItemError, match="the chat template of the model refuses the messages: ") as caught:
        prompt_tokens(tokenizer, [Message("user", "How many?")])
    assert caught.value.code == "malformed"
