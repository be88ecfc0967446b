"""What a call of vLLM has used where it brought nothing, whether somebody read along or not; and what readers hear."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.item import Message, Tool, ToolCall, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.metered import Metered
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_heard import Heard
from services.generate_gpu.engines.vllm_host import Host
from services.generate_gpu.engines.vllm_tools import Reader
from shared.errors import ItemError
from shared.models import Model

MODEL = Model(name="house", engine="vllm", id="x")
PIECES = ([7, 7, 7], [7, 7])


class Blank(Vllm):
    """An engine that says nothing but blanks, in two samples."""

    says = " "

    @asynccontextmanager
    async def _watched(self, request: CompletionRequest) -> AsyncIterator[None]:
        yield

    async def _heard(self, request: CompletionRequest, on_delta: OnDelta | None, on_begin: OnBegin = unheard) -> Heard:
        heard = Heard(prompt=40)
        for index, tokens in enumerate(PIECES):
            part = SimpleNamespace(index=index, text=self.says, token_ids=tokens, logprobs=None, finish_reason="length")
            output: Any = SimpleNamespace(num_cached_tokens=32, outputs=[part], metrics=None)
            heard.add(output)
            if on_delta is not None:
                await on_delta(part.text, len(tokens))
        return heard


async def read(text: str, tokens: int = 0, /) -> None:
    """A reader who does not mind."""


@pytest.mark.parametrize("on_delta", [None, read])
async def test_an_answer_of_blanks_is_counted_with_what_the_engine_says(on_delta: OnDelta | None) -> None:
    lost: list[Usage] = []
    engine = Metered(Blank(MODEL, Host([MODEL])), lost.append, MODEL)
    with pytest.raises(ItemError, match="the model 'house' gave no text in 5 tokens"):
        await engine.complete(CompletionRequest([Message("user", "?")]), on_delta)
    assert lost == [Usage(40, 32, 5, calls=1)]


CALLING = CompletionRequest([Message("user", "?")], tools=[Tool("visits")])


class Calling(Blank):
    """An engine that writes calls of tools, and a word with them."""

    says = '{"name": "visits"}'

    async def _reader(self, request: CompletionRequest) -> Reader:
        return lambda text: ("One moment.", [ToolCall("visits")])


async def test_readers_hear_the_text_of_an_answer_and_never_how_its_calls_were_written() -> None:
    heard: list[tuple[str, int]] = []

    async def keep(text: str, tokens: int = 0, /) -> None:
        heard.append((text, tokens))

    done = (await Calling(MODEL, Host([MODEL])).complete(CALLING, keep))[0]
    assert (done.text, [call.name for call in done.tool_calls]) == ("One moment.", ["visits"])
    assert heard == [("", 3), ("", 2), ("One moment.", 0)]


class Unreadable(Calling):
    async def _reader(self, request: CompletionRequest) -> Reader:
        def read(text: str) -> tuple[str, list[ToolCall]]:
            raise ItemError("upstream", "the parser does not fit")

        return read


async def test_an_answer_that_cannot_be_read_has_cost_all_the_same() -> None:
    lost: list[Usage] = []
    with pytest.raises(ItemError, match="does not fit"):
        await Metered(Unreadable(MODEL, Host([MODEL])), lost.append, MODEL).complete(CALLING)
    assert lost == [Usage(40, 32, 5, calls=1)]


class Misfit(Calling):
    async def _reader(self, request: CompletionRequest) -> Reader:
        raise ItemError("upstream", "the parser is one for other models")

    async def _heard(self, request: CompletionRequest, on_delta: OnDelta | None, on_begin: OnBegin = unheard) -> Heard:
        raise AssertionError("nobody could read what the model writes")


async def test_a_parser_for_other_models_is_found_before_anything_is_generated() -> None:
    with pytest.raises(ItemError, match="for other models"):
        await Misfit(MODEL, Host([MODEL])).complete(CALLING)
