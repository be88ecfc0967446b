"""The extractive reader as an engine: quotes the passages; needs no key, no network and no GPU."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msgspec.structs import replace

from contracts.item import Completion, Usage
from services.generate_gpu.domain.completion import CompletionRequest, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.lead import lead
from services.generate_gpu.domain.reader import Encoder, deltas, read_all
from shared.errors import ItemError
from shared.models import Model

_AT_ONCE = 8  # questions a thread reads in one go: more would keep a person waiting


class _Waiting(NamedTuple):
    request: CompletionRequest
    on_begin: OnBegin
    answer: "asyncio.Future[Completion]"


class Extractive:
    """Reads in threads. Questions that wait are read together; those of people come before those of batches."""

    paid = False
    instant = False

    def __init__(self, model: Model, encoder: Encoder, threads: int = 2) -> None:
        self._model = model
        self._encoder = encoder
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._free = threads
        self._people: deque[_Waiting] = deque()
        self._batches: deque[_Waiting] = deque()
        self._readers: set[asyncio.Task[None]] = set()

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`; the text comes sentence by sentence. Raises ItemError where a schema is asked for."""
        if request.schema is not None:
            reason = f"the model {self._model.name!r} quotes passages and cannot fill a schema: name another model"
            raise ItemError("upstream", reason)
        completion = replace(await self._read(request, on_begin), model=self._model.name)
        if on_delta is not None:
            for piece in deltas(completion):
                await on_delta(piece)
        return [completion, *[replace(completion, usage=Usage())] * (request.n - 1)]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read(self, request: CompletionRequest, on_begin: OnBegin) -> Completion:
        if not request.question.strip() and (start := lead(request.passages, self._model.name)) is not None:
            on_begin()
            return start
        waiting = _Waiting(request, on_begin, asyncio.get_running_loop().create_future())
        (self._batches if request.batch else self._people).append(waiting)
        if self._free:
            self._free -= 1
            reader = asyncio.create_task(self._drain())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await waiting.answer

    async def _drain(self) -> None:
        """One thread's work: as long as somebody waits, read for the next few."""
        try:
            while some := self._next():
                for one in some:
                    one.on_begin()
                asked = [(one.request.question, one.request.passages) for one in some]
                reading = asyncio.get_running_loop().run_in_executor(self._threads, read_all, asked, self._encoder)
                await asyncio.wait({reading})
                _answer(some, reading)
        finally:
            self._free += 1

    def _next(self) -> list[_Waiting]:
        found: list[_Waiting] = []
        for queue in (self._people, self._batches):
            while queue and len(found) < _AT_ONCE:
                waiting = queue.popleft()
                if not waiting.answer.done():  # nobody waits for it any more
                    found.append(waiting)
        return found


def _answer(some: Sequence[_Waiting], reading: "asyncio.Future[list[Completion]]") -> None:
    """Hand everyone their completion, or the error that the reading ended with."""
    error = reading.exception()
    for i, waiting in enumerate(some):
        if waiting.answer.done():
            continue
        if error is not None:
            waiting.answer.set_exception(error)
        else:
            waiting.answer.set_result(reading.result()[i])
