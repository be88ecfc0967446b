"""Does to a running stack what the plan says."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from client.stack import StackInfo, status
from loadtest.chaos.plan import Fault

_LOOK_S = 0.1
_AWAY_S = 10.0  # how long a process may take to come back before another fault is tried
_FORGOTTEN_S = 1.0


@dataclass
class Saboteur:
    """Knows the processes of one stack through its supervisor."""

    info: StackInfo
    stall_s: float
    _aof: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=100))
    _stalled: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        """Watches how Redis's log grows, to know where its last second begins. In the end nothing stands still."""
        watch = asyncio.create_task(self._watch_log())
        try:
            yield
        finally:
            watch.cancel()
            for stalled in self._stalled:
                stalled.cancel()
            await asyncio.gather(watch, *self._stalled, return_exceptions=True)

    async def do(self, fault: Fault) -> bool:
        """False where it could not be done: the process did not run, or the server did not answer."""
        match fault.kind:
            case "kill":
                return await self._signal(fault.service, signal.SIGKILL)
            case "kill nats":
                return await self._signal("nats", signal.SIGKILL)
            case "kill redis":
                return await self._signal("redis", signal.SIGKILL)
            case "redis forgets a second":
                return await self._forget()
            case "redis emptied":
                return await self._empty()
            case "stall":
                return await self._stall(fault.service)

    async def _pid(self, name: str) -> int:
        """Of a running process; 0 where it does not come back."""
        until = time.monotonic() + _AWAY_S
        while time.monotonic() < until:
            found = await asyncio.to_thread(status, Path(self.info.data))
            for process in found.processes if found else ():
                if process.name == name and process.pid:
                    return process.pid
            await asyncio.sleep(_LOOK_S)
        return 0

    async def _signal(self, name: str, number: signal.Signals) -> bool:
        pid = await self._pid(name)
        if not pid:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    async def _stall(self, name: str) -> bool:
        """A process that stands still: others get its messages, and then it goes on with them too."""
        pid = await self._pid(name)
        if not pid:
            return False
        task = asyncio.create_task(_stand_still(pid, self.stall_s))
        self._stalled.add(task)
        task.add_done_callback(self._stalled.discard)
        return True

    async def _empty(self) -> bool:
        try:
            async with Redis.from_url(self.info.redis_url, socket_timeout=5) as redis:
                await redis.flushall()
        except RedisError:
            return False
        return True

    async def _forget(self) -> bool:
        """Kill Redis and cut the last second off its log, while the supervisor, which would start it, stands still."""
        pid = await self._pid("redis")
        if not pid or not self._aof:
            return False
        os.kill(self.info.supervisor_pid, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
            now = time.monotonic()
            before = next((size for at, size in reversed(self._aof) if at <= now - _FORGOTTEN_S), 0)
            log = self._log()
            os.truncate(log, min(before, log.stat().st_size))
        except ProcessLookupError:
            return False
        finally:
            os.kill(self.info.supervisor_pid, signal.SIGCONT)
        return True

    async def _watch_log(self) -> None:
        while True:
            with suppress(FileNotFoundError):
                self._aof.append((time.monotonic(), self._log().stat().st_size))
            await asyncio.sleep(_LOOK_S)

    def _log(self) -> Path:
        return Path(self.info.data) / "redis" / "appendonly.aof"


async def _stand_still(pid: int, seconds: float) -> None:
    with suppress(ProcessLookupError):  # another fault may have killed it meanwhile
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
