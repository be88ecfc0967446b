"""The frame of every service: a FastStream application with its lifespan, broker, middleware and control subscriber,
and around it what every process needs: streams, Redis, worker, telemetry, service discovery."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import nats.micro
from faststream import FastStream
from faststream.nats import NatsBroker
from faststream.nats.opentelemetry import NatsTelemetryMiddleware
from faststream.nats.security import NatsSecurity
from nats.aio.client import Client
from nats.micro.service import Service as MicroService
from nats.micro.service import ServiceConfig
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.item import Item
from contracts.steps import Step
from contracts.task import Task
from shared import VERSION, logs, telemetry
from shared.addresses import servers
from shared.audit import Audit
from shared.bus import Bus
from shared.cancels import Cancels
from shared.connect import redis_ready, wait_for_nats
from shared.control import Control
from shared.errors import PenstockError
from shared.groups import Groups
from shared.hops import Hops
from shared.logs import Samples
from shared.outcome import Outcome
from shared.pull import Pull
from shared.settings import ServiceSettings, StackSettings
from shared.telemetry import Telemetry
from shared.tls import NatsTls
from shared.worker import Worker

log = logging.getLogger("penstock.service")

_READY_EVERY_S = 3.0
_TOLD_TWICE = 143  # the exit code of a process that SIGTERM ended
_HOST_LENGTH = 40  # of the name of this machine, its end: that is what tells the pods of a set apart
DRAIN_S = 15.0
"""What handlers get to finish after SIGTERM; supervisors should wait a little longer before they kill."""
_LEAVE_S = 0.5  # what a second SIGTERM may take

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
StepT = TypeVar("StepT", bound=Step)


@dataclass
class Runtime(Generic[SettingsT]):
    """What a service's composition gets to work with."""

    settings: SettingsT
    stack: StackSettings
    bus: Bus
    redis: "Redis"
    hops: Hops
    worker: Worker
    cancels: Cancels
    telemetry: Telemetry
    replica: str
    started: list[Callable[[MicroService], Awaitable[None]]] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)  # started ones, beside the worker's own
    leaving: list[Callable[[], Awaitable[None]]] = field(default_factory=list)  # before what runs is waited for
    left: list[Callable[[], Awaitable[None]]] = field(default_factory=list)  # and after that

    def on(self, step: type[StepT], handler: Callable[[Task, StepT], Awaitable[Sequence[Item] | Outcome]]) -> None:
        """Let `handler` take every step of this class; it sees only living items."""
        self.worker.on(step, handler)

    def when_started(self, hook: Callable[[MicroService], Awaitable[None]]) -> None:
        """Run once the service listens; gets the NATS micro service, to add endpoints to it."""
        self.started.append(hook)


Build = Callable[[Runtime[SettingsT]], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Service(Generic[SettingsT]):
    """A service, described but not started."""

    settings: type[SettingsT]
    build: Build[SettingsT]

    def application(self, settings: SettingsT, stack: StackSettings, secure: NatsTls | None = None) -> FastStream:
        """The FastStream application of one process."""
        return _Process(settings, stack, self.build, secure).application()


def service(settings: type[SettingsT], build: Build[SettingsT]) -> Service[SettingsT]:
    """Describe a service: its settings, and the context manager that composes it."""
    return Service(settings, build)


def rarely_collect() -> None:
    """What travels has no cycles, and a shard decoded is thousands of new objects: with the usual threshold the
    collector would look through them again and again (two thirds of the time of decoding). A hundred shards at work are
    some hundred thousand."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 50)


def _replica(service: str) -> str:
    """A name that no other replica has, fit for a subject: in containers every process has the same number."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[-_HOST_LENGTH:]
    return f"{service}-{host}-{os.getpid()}"


def main(described: Service[SettingsT]) -> None:
    """Run a service until SIGTERM; settings that are wrong end it with one clear line."""
    try:
        settings, stack = described.settings.load(), StackSettings.load()
        logs.start(stack.log_level, stack.log_format, settings.service, _replica(settings.service))
        rarely_collect()
        logging.getLogger("nats").setLevel(logging.CRITICAL)  # its reconnect noise is said once, by `connect`
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every call of a model says nothing
        _run(_serve(described, settings, stack))
    except PenstockError as error:
        sys.exit(f"penstock-{described.settings.service}: {error}")


async def _serve(described: Service[SettingsT], settings: SettingsT, stack: StackSettings) -> None:
    secure = await wait_for_nats(stack.nats_url, stack.tls)
    await described.application(settings, stack, secure).run(log_level=logging.DEBUG, sleep_time=0.05)


def _run(coroutine: Awaitable[None]) -> None:
    async def until_done() -> None:
        await coroutine

    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(until_done())
    return asyncio.run(until_done())


class _Process(Generic[SettingsT]):
    """One running service: the hooks of its FastStream application."""

    def __init__(
        self, settings: SettingsT, stack: StackSettings, build: Build[SettingsT], secure: NatsTls | None
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._build = build
        self._replica = _replica(settings.service)
        self._telemetry = telemetry.start(settings.service, stack.otlp, self._replica, stack.metrics_port)
        self._cancels = Cancels()
        self._control: Control | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._runtime: Runtime[SettingsT] | None = None
        self._micro: MicroService | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._ready = False
        self._showing: asyncio.Task[None] | None = None
        self._broker = NatsBroker(
            servers(stack.nats_url),
            name=self._replica,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # nats-py takes fractions of seconds
            reconnected_cb=self._on_reconnect,
            graceful_timeout=DRAIN_S,
            security=NatsSecurity(ssl_context=secure.context, tls_handshake_first=secure.first) if secure else None,
            middlewares=[NatsTelemetryMiddleware()],
            logger=None,
        )

    def application(self) -> FastStream:
        return FastStream(
            self._broker,
            logger=None,
            lifespan=self._lifespan,
            after_startup=[self._after_startup],
            on_shutdown=[self._on_shutdown],
        )

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        bus = Bus.on(
            await self._broker.connect(),
            patient=True,
            accounts=self._stack.accounts,
            replicas=self._stack.stream_replicas,
            sizes=self._stack,
        )
        await bus.ensure()
        redis = await redis_ready(self._stack.redis_url, self._stack.tls)
        groups = Groups(redis)
        hops = Hops(bus, groups, traced=self._stack.trace_shards)
        sampled = Samples(self._stack.sampled, self._stack.sample_share)
        audit = Audit(bus, self._settings.service, self._replica, self._telemetry, sampled)
        worker = Worker(self._settings, bus, hops, audit, self._cancels, self._telemetry)
        self._runtime = Runtime(
            self._settings, self._stack, bus, redis, hops, worker, self._cancels, self._telemetry, self._replica
        )
        async with self._build(self._runtime):
            yield
        await redis.aclose()
        self._telemetry.close()

    async def _after_startup(self) -> None:
        runtime = self._started_runtime()
        self._control = Control(self._broker, runtime.bus, self._cancels)
        await self._control.look()
        self._hearing = asyncio.create_task(self._control.run())
        await runtime.worker.start()
        self._micro = await announce(runtime.bus.nc, self._settings.service, self._replica)
        for hook in runtime.started:
            await hook(self._micro)
        self._ready = True
        self._showing = asyncio.create_task(self._show_ready())
        log.info("penstock-%s is ready", self._settings.service)

    async def _on_shutdown(self) -> None:
        """Nothing new, then let what runs finish; a second signal does not wait for that.

        Before the service is ready there is nothing to finish.
        """
        if not self._ready:
            log.info("penstock-%s: told to stop before it was ready", self._settings.service)
            os._exit(0)  # start-up and shutdown would wait for each other
        for watching in (self._showing, self._hearing):
            if watching is not None:
                watching.cancel()
        runtime = self._started_runtime()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._leave_now)
        if self._micro is not None:
            await self._micro.stop()
        await asyncio.gather(*(leave() for leave in runtime.leaving))
        await asyncio.gather(runtime.worker.drain(DRAIN_S), *(pull.drain(DRAIN_S) for pull in runtime.pulls))
        await asyncio.gather(*(gone() for gone in runtime.left))

    def _leave_now(self) -> None:
        log.warning("penstock-%s: told to stop again, leaving what runs to others", self._settings.service)
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        """Nothing is lost by it: what is not settled is delivered again, at once where the server hears of it."""
        runtime = self._started_runtime()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await asyncio.gather(runtime.worker.abandon(), *(pull.abandon() for pull in runtime.pulls))
                await asyncio.gather(*(gone() for gone in runtime.left))
                await runtime.bus.nc.flush()
        finally:
            os._exit(_TOLD_TWICE)

    async def _show_ready(self) -> None:
        """What a container's health check looks at: a file that is fresh while NATS and Redis answer."""
        path, runtime = self._stack.ready_file, self._started_runtime()
        while path is not None:
            with contextlib.suppress(RedisError):
                if runtime.bus.nc.is_connected and await runtime.redis.ping():
                    path.touch()
            await asyncio.sleep(_READY_EVERY_S)

    async def _on_reconnect(self) -> None:
        log.warning("penstock-%s: connected to NATS again", self._settings.service)
        if self._control is not None:
            await self._control.resume()
        if self._runtime is not None:
            await self._runtime.worker.resume()
            for pull in self._runtime.pulls:
                await pull.resume()

    def _started_runtime(self) -> Runtime[SettingsT]:
        assert self._runtime is not None, "the lifespan comes first"
        return self._runtime


async def announce(nc: Client, name: str, replica: str) -> MicroService:
    """Answer NATS service discovery ($SRV.PING, $SRV.INFO, $SRV.STATS)."""
    return await nats.micro.add_service(
        nc,
        ServiceConfig(
            name=f"penstock-{name}",
            version=VERSION,
            description=f"Penstock {name}: takes work.{name}.<lane>",
            metadata={"replica": replica},
        ),
    )
