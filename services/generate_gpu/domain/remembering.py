"""Which prefixes an engine holds: those of calls that it has answered. A call that failed may have computed none."""

from dataclasses import dataclass

from contracts.item import Completion
from services.generate_gpu.domain.completion import Around, CompletionRequest, Keeping, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.ladder import Ladder
from services.generate_gpu.domain.load import Load


@dataclass(frozen=True)
class _Remembering(Around):
    load: Load
    prefix: str

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`."""
        found = await self.engine.complete(request, on_delta, on_begin)
        self.load.holds(self.prefix)
        return found


def remembering(rungs: Ladder, load: Load, prefix: str) -> Ladder:
    """The same rungs; calls of the model that was asked for are remembered by the key of their prefix, if there is one
    and the model's engine keeps prefixes. The key says nothing about other models."""
    first = rungs.first
    if not prefix or not isinstance(first, Keeping):
        return rungs
    return rungs.through(lambda step: _Remembering(first, load, prefix) if step.rung == "primary" else step.engine)
