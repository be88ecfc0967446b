"""Asyncio beside gevent: locust's users are greenlets, nats-py wants an event loop.

One event loop a process runs in a thread of the system's, which gevent has not patched. uvloop does its own input and
output, so gevent's patched sockets and selectors are never touched by it. A greenlet hands a coroutine over and sleeps
until gevent's own loop is woken, so that other users go on meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import gevent
import uvloop
from gevent.event import Event
from gevent.monkey import get_original

T = TypeVar("T")


@dataclass
class _Call(Generic[T]):
    coroutine: Coroutine[Any, Any, T] | None = None
    done: Event = field(default_factory=Event)
    result: T | None = None
    error: BaseException | None = None


class Bridge:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._finished: deque[_Call[Any]] = deque()
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._deliver)
        self._stopped: _Call[None] = _Call()
        start_thread = get_original("_thread", "start_new_thread")
        start_thread(self._run, ())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there; the calling greenlet waits, the others go on. Raises what the coroutine raises."""
        call = _Call(coroutine)
        self._loop.call_soon_threadsafe(self._start, call)
        call.done.wait()
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # set, where there was no error

    def close(self) -> None:
        """End the thread: one that still runs while the interpreter goes away may crash it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._stopped.done.wait()
        self._wake.close()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()
        self._finished.append(self._stopped)
        self._wake.send()

    def _start(self, call: _Call[Any]) -> None:
        """In the loop's thread."""
        assert call.coroutine is not None
        task = self._loop.create_task(call.coroutine)
        task.add_done_callback(lambda done: self._note(call, done))

    def _note(self, call: _Call[Any], task: asyncio.Task[Any]) -> None:
        call.error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if call.error is None:
            call.result = task.result()
        self._finished.append(call)
        self._wake.send()

    def _deliver(self) -> None:
        """In gevent's hub: wake whoever waits."""
        while self._finished:
            self._finished.popleft().done.set()
