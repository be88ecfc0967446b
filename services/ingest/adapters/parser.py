"""Runs the parser children: started when there is work, ended when there is none, replaced when one dies."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

import msgspec

from services.ingest.adapters.limits import LENGTH_BYTES, OUT_OF_MEMORY, Limits
from services.ingest.domain.request import Request, Result
from shared.errors import ItemError

_ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}
_CHILD = "services.ingest.adapters.child"


class Parser:
    """A `Reader` on at most `most` child processes, each of which reads one document at a time."""

    def __init__(self, limits: Limits, most: int, idle_s: float) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(most)
        self._idle_s = idle_s
        self._idle: dict[Process, asyncio.TimerHandle] = {}

    async def read(self, request: Request) -> Result:
        """Raises ItemError for what the child finds wrong with the document, and where it crashes or hangs."""
        async with self._slots:
            child = self._take() or await self._start()
            result = None
            try:
                async with asyncio.timeout(self._limits.seconds):
                    result = await _ask(child, request)
            except TimeoutError:
                raise ItemError(
                    "unreadable", f"{request.name}: reading it took longer than {self._limits.seconds} s"
                ) from None
            except (asyncio.IncompleteReadError, ConnectionError):
                raise _death(request.name, await child.wait()) from None
            finally:
                await self._settle(child, is_well=result is not None)
        if result.code:
            raise ItemError(result.code, result.reason)
        return result

    async def close(self) -> None:
        """End the children that wait for work."""
        while child := self._take():
            await self._settle(child, is_well=False)

    def _take(self) -> Process | None:
        """A child that waits for work, if there is one."""
        while self._idle:
            child, timer = self._idle.popitem()
            timer.cancel()
            if child.returncode is None:
                return child
        return None

    async def _start(self) -> Process:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _CHILD, msgspec.json.encode(self._limits).decode()),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
            start_new_session=True,  # a Ctrl-C on the terminal is for its parent; it ends when its stdin does
        )

    async def _settle(self, child: Process, is_well: bool) -> None:
        """Keep a child for the next document for a while, or end it."""
        if is_well:
            self._idle[child] = asyncio.get_running_loop().call_later(self._idle_s, self._end, child)
        elif child.returncode is None:
            child.kill()
            await child.wait()

    def _end(self, child: Process) -> None:
        self._idle.pop(child, None)
        if child.stdin is not None:
            child.stdin.close()


def _death(name: str, code: int) -> ItemError:
    if code == OUT_OF_MEMORY:
        return ItemError("too_large", f"{name}: reading it takes more memory than is allowed")
    return ItemError("unreadable", f"{name}: the parser broke down over it (exit {code})")


async def _ask(child: Process, request: Request) -> Result:
    assert child.stdin is not None, "started with a pipe"
    assert child.stdout is not None, "started with a pipe"
    payload = msgspec.msgpack.encode(request)
    child.stdin.write(len(payload).to_bytes(LENGTH_BYTES, "big"))
    child.stdin.write(payload)
    await child.stdin.drain()
    length = int.from_bytes(await child.stdout.readexactly(LENGTH_BYTES), "big")
    return msgspec.msgpack.decode(await child.stdout.readexactly(length), type=Result)
