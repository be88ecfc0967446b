"""One vLLM engine in this process: opened when it is first needed, opened again when it has died.

The engine takes seconds to start, so that happens in a thread: the service's heartbeats go on meanwhile.
"""

import asyncio
import atexit
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from contracts.item import Message
from services.generate_gpu.engines.vllm_guard import Guard
from services.generate_gpu.engines.vllm_prompt import prompt_tokens
from services.generate_gpu.engines.vllm_tools import check_parsers
from shared.errors import Retryable
from shared.models import Model
from shared.settings import SettingsError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger("penstock.generate.vllm")

_LOOK_EVERY_S = 0.5
_SHOWN = 300
_LESS = "the log above says why; where memory is short, lower context, max_num_seqs or gpu_memory_utilization"


class Host:
    """The engine of all models of one `id`: the plain one and its adapters."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.id = models[0].id
        self._models = models
        self._engine: AsyncLLM | None = None
        self._guard: Guard | None = None
        self._opening = asyncio.Lock()
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")  # a tokenizer serves one at a time

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return max(model.context for model in self._models)

    async def engine(self) -> "AsyncLLM":
        """The running engine. Raises Retryable where it does not start."""
        async with self._opening:
            if self._engine is not None and self._engine.errored:
                log.error("the engine of %s has died; starting another", self.id)
                await self._shut()
            if self._engine is None:
                self._engine = await self._guarded()
            return self._engine

    async def _guarded(self) -> "AsyncLLM":
        """The engine once it is open, its processes watched over from when they come: that takes a while, too."""
        guard = Guard()
        try:
            opened: list[AsyncLLM] = []  # not the thread's result: frames and futures would keep an engine for ever
            opening = asyncio.create_task(asyncio.to_thread(self._open, opened))
            while not opening.done():
                await asyncio.wait({opening}, timeout=_LOOK_EVERY_S)
                guard.watch()
            opening.result()
        except BaseException:  # cancelled too: the guard ends the processes of an engine that nobody will have
            await asyncio.to_thread(guard.close)
            raise
        self._guard = guard
        atexit.register(self._end)
        return opened.pop()

    def _end(self) -> None:
        """Let go of an engine that nobody has closed: its own __del__ comes when modules are gone already."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()

    async def prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, object]] = ()) -> list[int]:
        """The tokens of a prompt in the model's own chat template. Raises ItemError where that takes no tools."""
        tokenizer = (await self.engine()).get_tokenizer()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, prompt_tokens, tokenizer, messages, tools)

    async def close(self) -> None:
        async with self._opening:
            await self._shut()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    def _open(self, opened: "list[AsyncLLM]") -> None:
        """Adds the engine to the list. Raises SettingsError, or Retryable where it does not start."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            opened.append(AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments())))
        except ValueError as error:
            reason = " ".join(str(error).split())[:_SHOWN]
            raise SettingsError(f"models.yaml: the engine of {self.id} refuses its settings: {reason}") from None
        except (RuntimeError, OSError, MemoryError) as error:
            raise Retryable(f"the engine of {self.id} does not start: {error}; {_LESS}") from error

    def _arguments(self) -> dict[str, Any]:
        """Ours first, then what the catalogue says: an operator knows the machine."""
        adapters = [model for model in self._models if model.adapter]
        ours: dict[str, Any] = {"model": self.id, "max_model_len": self.context, "enable_prefix_caching": True}
        ours["scheduling_policy"] = "priority"  # a person before a batch
        # between the tokens of JSON a weak model can write blanks for ever
        ours["structured_outputs_config"] = {"backend": "guidance", "disable_any_whitespace": True}
        if adapters:
            ours |= {"enable_lora": True, "max_loras": len(adapters)}
        given: dict[str, Any] = {}
        for model in self._models:
            given |= model.settings
        return ours | given

    async def _shut(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            atexit.unregister(self._end)
            with suppress(RuntimeError):  # it may be dead already
                await asyncio.to_thread(engine.shutdown)
        guard, self._guard = self._guard, None
        if guard is not None:
            await asyncio.to_thread(guard.close)


def check_installed(models: Sequence[Model]) -> None:
    """Raises SettingsError where the catalogue names models that need vLLM and it is not installed, or is misspelt."""
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
    except ImportError as error:
        names = ", ".join(model.name for model in models)
        raise SettingsError(
            f"models.yaml: {names}: the engine vllm needs `pip install penstock[vllm]`: {error}"
        ) from None
    check_parsers(models)
    known = AsyncEngineArgs.__dataclass_fields__
    for model in models:
        for name in model.settings:
            if name not in known:
                raise SettingsError(f"models.yaml: model {model.name!r}: settings.{name}: vLLM has no such argument")
