"""A text that was written beforehand: the last rung of a ladder. It says that a person should look at the question."""

from contracts.item import Completion, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnBegin, OnDelta, unheard
from shared.errors import ItemError
from shared.models import Model


class Canned:
    """Always answers the same, and only where nothing is made of its answer: it is no summary, sample or draft."""

    paid = False
    instant = False

    def __init__(self, model: Model) -> None:
        self._model = model

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`. Raises ItemError where a schema or several samples are asked for, or work would go on."""
        if not request.final or request.schema is not None or request.n != 1:
            raise ItemError("upstream", f"the model {self._model.name!r} has one text, which is no use here")
        on_begin()
        if on_delta is not None:
            await on_delta(self._model.text)
        answer = Completion(self._model.text, self._model.name, mode="degraded", escalate=True, usage=Usage(calls=1))
        return [answer]

    async def close(self) -> None:
        """Nothing to let go of."""
