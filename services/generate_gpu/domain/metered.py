"""An engine's calls for one item: one that brings nothing is counted with what it cost."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from contracts.item import Completion, Usage
from services.generate_gpu.domain.completion import Around, CompletionRequest, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.limits import prompt_tokens
from shared.errors import ItemError, Retryable
from shared.models import Model
from shared.text import count_tokens


@dataclass(frozen=True)
class Metered(Around):
    """`lost` hears what a call has used that brought nothing."""

    lost: Callable[[Usage], None]
    model: Model

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`."""
        heard = _Heard(on_delta, on_begin)
        try:
            return await self.engine.complete(request, heard.take if on_delta is not None else None, heard.begin)
        except (ItemError, Retryable, asyncio.CancelledError) as error:
            usage = error.usage if isinstance(error, ItemError | Retryable) else None
            broken_off = heard.pieces or (heard.begun and isinstance(error, asyncio.CancelledError))
            if usage is None and self.engine.paid and broken_off:
                usage = heard.usage(request, self.model)
            if usage is not None:
                self.lost(usage)
            raise


@dataclass
class _Heard:
    """What a call has said before it was broken off."""

    on_delta: OnDelta | None
    on_begin: OnBegin
    begun: bool = False
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0

    def begin(self) -> None:
        self.begun = True
        self.on_begin()

    async def take(self, text: str, tokens: int = 0, /) -> None:
        self.pieces.append(text)
        self.tokens += tokens
        if self.on_delta is not None:
            await self.on_delta(text, tokens)

    def usage(self, request: CompletionRequest, model: Model) -> Usage:
        """Of a call that never said: its prompt and what it had streamed, counted by ourselves where it does not."""
        written = self.tokens or sum(count_tokens(["".join(self.pieces)])) if self.pieces else 0
        return Usage(prompt_tokens(request, model), 0, written, calls=1)
