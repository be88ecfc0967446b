"""The life of a vLLM engine: opened once for all, again when it has died, ended where nobody wants it any more.

What is opened here is no engine: the thread that opens one is. The real one dies and starts in tests/real_vllm.
"""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import psutil
import pytest

from services.generate_gpu.domain.completion import Away
from services.generate_gpu.engines import vllm_host
from services.generate_gpu.engines.vllm_host import Host
from services.generate_gpu.engines.vllm_pulse import Pulse
from shared.errors import Retryable
from shared.models import Model
from shared.settings import SettingsError

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@dataclass(eq=False)
class Opened:
    """An engine as far as its life goes."""

    errored: bool = False
    ended: bool = False
    output_handler: None = None  # nobody has asked it anything

    def shutdown(self) -> None:
        self.ended = True

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)


class Slow(Host):
    """Opens when it may; with `child`, in a process that it waits for, as vLLM does."""

    def __init__(self, turn: asyncio.Lock | None = None) -> None:
        super().__init__([Model(name="house", engine="vllm", id="house")], turn)
        self.may = threading.Event()
        self.openings = 0
        self.error: Exception | None = None
        self.child: list[str] = []
        self.started: list[psutil.Process] = []

    def _open(self, opened: list, pulse: Pulse) -> None:  # type: ignore[type-arg]  # what is opened is no engine
        self.openings += 1
        if self.child:
            process = subprocess.Popen(self.child)
            self.started.append(psutil.Process(process.pid))
            process.wait()
            raise Retryable("its processes are gone")
        assert self.may.wait(10)
        if self.error is not None:
            raise self.error
        opened.append(Opened())


@pytest.fixture
async def host() -> AsyncIterator[Slow]:
    found = Slow()
    yield found
    found.may.set()
    await found.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no events
            await asyncio.sleep(0.02)


async def died(host: Slow) -> Opened:
    """The engine that was open."""
    host.may.set()
    engine = await host.engine()
    assert isinstance(engine, Opened)
    host.may.clear()
    engine.errored = True
    return engine


async def test_whoever_gives_up_waiting_does_not_end_the_opening(host: Slow) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(host.engine(), 0.1)
    host.may.set()
    assert isinstance(await host.engine(), Opened)
    assert host.openings == 1


async def test_calls_hear_at_once_that_an_engine_has_died_and_one_other_is_opened(host: Slow) -> None:
    first = await died(host)
    for _ in range(3):
        with pytest.raises(Away, match="has died; it is started again"):
            await asyncio.wait_for(host.engine(), 0.5)
    await until(lambda: host.openings == 2)
    assert not host.ready()
    host.may.set()
    await until(host.ready)
    assert first.ended
    assert await host.engine() is not first
    assert host.openings == 2


async def test_looking_alone_starts_a_dead_engine_again(host: Slow) -> None:
    await died(host)
    host.may.set()
    await until(host.ready)
    assert host.openings == 2


@pytest.mark.parametrize(
    "error", [Retryable("no memory"), SettingsError("models.yaml: no such thing"), TypeError("of vLLM's own")]
)
async def test_an_engine_that_does_not_start_again_is_tried_after_a_pause(
    host: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(vllm_host, "_PAUSE_S", 0.6)
    await died(host)
    host.error = error
    host.may.set()
    assert not host.ready()
    await until(lambda: host._opening is not None and host._opening.done())
    assert not host.ready()
    await asyncio.sleep(0.2)
    assert host.openings == 2
    assert str(error) in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, TypeError)
    host.error = None
    await until(host.ready)
    assert host.openings == 3


async def test_engines_open_one_after_the_other_so_that_each_guard_knows_its_own() -> None:
    turn = asyncio.Lock()
    first, second = Slow(turn), Slow(turn)
    starting = [asyncio.create_task(host.start()) for host in (first, second)]
    await until(lambda: first.openings == 1)
    await asyncio.sleep(0.2)
    assert second.openings == 0
    for host in (first, second):
        host.may.set()
    await asyncio.gather(*starting)
    assert (first.openings, second.openings) == (1, 1)
    for host in (first, second):
        await host.close()


async def test_who_opens_first_hears_why_it_does_not_start(host: Slow) -> None:
    host.error = Retryable("no memory")
    host.may.set()
    with pytest.raises(Retryable, match="no memory"):
        await host.start()


async def test_closing_ends_what_is_being_opened_and_nothing_else(host: Slow) -> None:
    other = await asyncio.create_subprocess_exec(*SLEEPS)
    host.child = SLEEPS
    waiting = asyncio.create_task(host.engine())
    await until(lambda: len(host.started) == 1)
    await asyncio.wait_for(host.close(), 10)
    assert not host.started[0].is_running()
    assert other.returncode is None
    other.kill()
    await other.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting
