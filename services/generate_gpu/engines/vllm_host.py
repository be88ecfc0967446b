"""One vLLM engine in this process: opened when it is first needed, opened again when it has died; one that hangs is
ended.

The engine takes seconds to start, so that happens in a thread: the service's heartbeats go on meanwhile.
"""

import asyncio
import atexit
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.item import Message
from services.generate_gpu.domain.completion import Away
from services.generate_gpu.engines.vllm_adapters import fingerprint, named, room_for
from services.generate_gpu.engines.vllm_guard import Guard
from services.generate_gpu.engines.vllm_prompt import prompt_tokens
from services.generate_gpu.engines.vllm_pulse import Pulse, steps
from services.generate_gpu.engines.vllm_tools import check_parsers
from shared.errors import PenstockError, Retryable, Unusable
from shared.models import Model
from shared.settings import SettingsError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger("penstock.generate.vllm")

_LOOK_EVERY_S = 0.5
_AGAIN_S = 2.0  # after which an item looks whether the engine is back
_PAUSE_S = 5.0  # between two tries to open it
_SHOWN = 300
_LESS = "the log above says why; where memory is short, lower context, max_num_seqs or gpu_memory_utilization"


class Host:
    """The engine of all models of one `id`: the plain one and its adapters."""

    def __init__(self, models: Sequence[Model], turn: asyncio.Lock | None = None) -> None:
        """`turn`: shared by hosts of one process, which open one after the other; a guard takes all processes for its
        engine's that come while that opens."""
        self.id = models[0].id
        self.adapters = {model.name: fingerprint(Path(model.adapter)) for model in models if model.adapter}
        self.pulse = Pulse(max(model.timeout.read for model in models))  # of the engine that is open
        self._loads = dict[str, asyncio.Task[str]]()  # of adapters into the engine that is open
        self._models = models
        self._turn = turn or asyncio.Lock()
        self._engine: AsyncLLM | None = None
        self._guard: Guard | None = None
        self._watching: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._once = False  # it has been open
        self._not_before = 0.0  # seconds of the loop's clock: an engine that does not start is not tried all the time
        self._closed = False
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")  # a tokenizer serves one at a time

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return max(model.context for model in self._models)

    async def start(self) -> "AsyncLLM":
        """The engine, opened where it is not. Raises Retryable where it does not start.

        It is opened once for all who wait for it, and for nobody in particular: one who gives up does not end it.
        """
        if not self.ready():
            await asyncio.shield(self._begun())
        assert self._engine is not None, "it has just been opened"
        return self._engine

    async def engine(self) -> "AsyncLLM":
        """The engine, opened at the first call. Raises Retryable where it does not start, and Away at once where it
        had died: another model may answer meanwhile."""
        if self._once and not self.ready():
            raise Away(f"the engine of {self.id} has died; it is started again", after=_AGAIN_S)
        return await self.start()

    def ready(self) -> bool:
        """Whether there is an engine that lives. One that has died begins to be opened again."""
        if self._engine is not None and not self._engine.errored:
            return True
        if self._once and not self._closed and asyncio.get_running_loop().time() >= self._not_before:
            self._begun()
        return False

    def _begun(self) -> asyncio.Task[None]:
        """The task that opens the engine; there is one at a time."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open_anew())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # waited for or not
        return self._opening

    async def _open_anew(self) -> None:
        try:
            if self._engine is not None:
                log.error("the engine of %s has died; starting another", self.id)
                await self._shut()
            async with self._turn:
                self._engine = await self._guarded()
        except Exception as error:  # whatever it is: the log says so, and the next try is not made at once
            self._not_before = asyncio.get_running_loop().time() + _PAUSE_S
            if isinstance(error, PenstockError):
                log.warning("%s", error)
            else:
                log.exception("the engine of %s does not start", self.id)
            raise
        self._once = True

    async def _guarded(self) -> "AsyncLLM":
        """The engine once it is open, its processes watched over from when they come: that takes a while, too."""
        guard, pulse = Guard(), Pulse(self.pulse.silence_s)
        opened: list[AsyncLLM] = []  # not the thread's result: frames and futures would keep an engine for ever
        opening = asyncio.create_task(asyncio.to_thread(self._open, opened, pulse))
        try:
            while not opening.done():
                await asyncio.wait({opening}, timeout=_LOOK_EVERY_S)
                guard.watch()
            opening.result()
            await self._answers(opened[0])
        except (asyncio.CancelledError, Exception):  # whatever it is: a guard is a process, and an engine several
            await _ended(opening, opened, guard)
            raise
        self._guard, self.pulse, self._loads = guard, pulse, {}
        self._watching = asyncio.create_task(self._watched(guard))
        atexit.register(self._end)
        return opened.pop()

    async def _answers(self, engine: "AsyncLLM") -> None:
        """vLLM asks this of its processes once; at the first call that would wait for ever where they die."""
        try:
            async with asyncio.timeout(self.pulse.silence_s):
                await engine.get_supported_tasks()
        except TimeoutError:
            raise Retryable(f"the engine of {self.id} does not answer; {_LESS}") from None

    async def _watched(self, guard: Guard) -> None:
        """Ends an engine that hangs; it is found dead then, like any other."""
        await self.pulse.stops()
        log.error(
            "the engine of %s has made no step for %g s (timeout.read); it is ended", self.id, self.pulse.silence_s
        )
        guard.kill()

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

    async def adapter(self, model: Model) -> "LoRARequest | None":
        """What a call of this model says of its adapter, which is loaded by then: of one that cannot be, an engine dies
        at the call, for all its models.

        It is loaded once for all who wait for it, and one who gives up does not end that: asked again for one that it
        could not load, vLLM says that it is there. Raises Unusable, and Retryable where the engine dies.
        """
        if model.name not in self.adapters:
            return None
        request = named(model, self.adapters[model.name])
        engine = await self.engine()
        if model.name not in self._loads:
            self._loads[model.name] = asyncio.create_task(_loaded_into(engine, request))
        if reason := await asyncio.shield(self._loads[model.name]):
            raise Unusable(f"the model {model.name!r}: vLLM cannot load {model.adapter}: {reason}")
        return request

    async def close(self) -> None:
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self._shut()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    def _open(self, opened: "list[AsyncLLM]", pulse: Pulse) -> None:
        """Adds the engine to the list. Raises SettingsError, or Retryable where it does not start."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            opened.append(AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments()), stat_loggers=[steps(pulse)]))
        except ValueError as error:
            raise SettingsError(f"models.yaml: the engine of {self.id} refuses its settings: {_line(error)}") from None
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
            rank = room_for([Path(model.adapter) for model in adapters])
            ours |= {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": rank}
        given: dict[str, Any] = {}
        for model in self._models:
            given |= model.settings
        return ours | given

    async def _shut(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            atexit.unregister(self._end)
            _hush(engine)
            with suppress(RuntimeError):  # it may be dead already
                await asyncio.to_thread(engine.shutdown)
        guard, self._guard = self._guard, None
        if guard is not None:
            await asyncio.to_thread(guard.close)


async def _loaded_into(engine: "AsyncLLM", adapter: "LoRARequest") -> str:
    """Why it could not be, or nothing."""
    try:
        await engine.add_lora(adapter)
    except Exception as error:  # noqa: BLE001 - vLLM has no class of its own for this
        if engine.errored:
            raise Retryable(f"the engine has died while it loaded {adapter.lora_path}; it is started again") from None
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    """What vLLM says, as one line that people read."""
    return " ".join(str(error).split())[:_SHOWN]


def _hush(engine: "AsyncLLM") -> None:
    """Nobody reads its answers any more, or vLLM would log that an engine which is being closed has died; who still
    waits for one hears that here."""
    if engine.output_handler is None:
        return  # it was never asked anything
    from vllm.v1.engine.exceptions import EngineDeadError

    engine.output_handler.cancel()
    engine.output_processor.propagate_error(EngineDeadError())


async def _ended(opening: asyncio.Task[None], opened: "list[AsyncLLM]", guard: Guard) -> None:
    """Nobody wants the engine any more, or it failed. Its thread cannot be stopped: what it starts is ended until it
    gives up."""
    while not opening.done():
        guard.watch()
        guard.kill()
        await asyncio.wait({opening}, timeout=_LOOK_EVERY_S)
    opening.exception()  # it has one by now, mostly: its processes are gone
    for engine in opened:
        await asyncio.to_thread(engine.shutdown)
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
