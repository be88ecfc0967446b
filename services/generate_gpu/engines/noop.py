"""Answers at once with the question: for benches."""

from msgspec.structs import replace

from contracts.item import Completion, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnBegin, OnDelta, unheard
from shared.models import Model


class Noop:
    """Costs nothing and takes no time."""

    paid = False
    instant = True

    def __init__(self, model: Model) -> None:
        self._name = model.name

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        on_begin()
        if on_delta is not None:
            await on_delta(request.question)
        answer = Completion(text=request.question, model=self._name)
        return [replace(answer, usage=Usage(calls=1)), *[answer] * (request.n - 1)]

    async def close(self) -> None:
        """Nothing to let go of."""
