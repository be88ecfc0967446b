"""What a call of vLLM has used where it brought nothing: the same, whether somebody read along or not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.item import Message, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnDelta
from services.generate_gpu.domain.metered import Metered
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_heard import Heard
from services.generate_gpu.engines.vllm_host import Host
from shared.errors import ItemError
from shared.models import Model

MODEL = Model(name="house", engine="vllm", id="x")
PIECES = ([7, 7, 7], [7, 7])


class Blank(Vllm):
    """An engine that says nothing but blanks, in two samples."""

    @asynccontextmanager
    async def _watched(self, request: CompletionRequest) -> AsyncIterator[None]:
        yield

    async def _heard(self, request: CompletionRequest, on_delta: OnDelta | None) -> Heard:
        heard = Heard(prompt=40)
        for index, tokens in enumerate(PIECES):
            part = SimpleNamespace(index=index, text=" ", token_ids=tokens, logprobs=None, finish_reason="length")
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
    engine = Metered(Blank(MODEL, Host([MODEL])), lost.append)
    with pytest.raises(ItemError, match="the model 'house' gave no text in 5 tokens"):
        await engine.complete(CompletionRequest([Message("user", "?")]), on_delta)
    assert lost == [Usage(40, 32, 5, calls=1)]
