"""Whether an engine goes on. One that hangs lives, takes calls and says nothing; vLLM does not see it.

Each step of an engine counts, whether or not it brings text: a call that is not streamed hears nothing until its end,
and a long prompt is computed in several steps.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.loggers import StatLoggerFactory

T = TypeVar("T")

_LOOKS = 4  # in the time of silence; by looks, not by the clock: where we stood still ourselves, only one is lost


class Pulse:
    """Counts the steps of an engine, and the calls that wait for one."""

    def __init__(self, silence_s: float) -> None:
        self.silence_s = silence_s
        self.steps = 0
        self._waiting = 0

    async def waited(self, outputs: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same outputs; whoever reads them waits for the engine, but not while it does something with one."""
        while True:
            self._waiting += 1
            try:
                output = await anext(outputs)
            except StopAsyncIteration:
                return
            finally:
                self._waiting -= 1
            yield output

    def stepped(self) -> None:
        self.steps += 1

    async def stops(self) -> None:
        """Returns once calls, one or several after each other, have waited for `silence_s` seconds without a step in
        between, or up to a fourth more."""
        quiet, known = 0, self.steps
        while quiet <= _LOOKS:
            await asyncio.sleep(self.silence_s / _LOOKS)
            if self.steps != known:
                quiet, known = 0, self.steps
            elif self._waiting:
                quiet += 1


def steps(pulse: Pulse) -> "StatLoggerFactory":
    """What vLLM calls after each step."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Steps(StatLoggerBase):  # type: ignore[misc]  # where it is checked there is no vLLM, so its class is Any
        def __init__(self, vllm_config: "VllmConfig", engine_index: int = 0) -> None:
            """Nothing of it is needed."""

        def record(self, *_: Any, **__: Any) -> None:
            pulse.stepped()

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return Steps
