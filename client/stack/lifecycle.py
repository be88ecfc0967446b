"""Starts, stops and looks at a stack."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from client.errors import Unreachable
from client.stack import secrets
from client.stack.config import DRAIN_S, SERVICES, nats_url, redis_url, write_all, write_nats
from client.stack.info import StackInfo, forget, load, locked, save, socket_folder, stack_id
from client.stack.ports import free_ports
from client.stack.processes import alive, sweep
from client.stack.ready import PortTaken, Watch, log_sizes, wait_ready
from client.stack.secrets import DEFAULT_TENANT, OPERATOR, Secrets
from client.stack.supervisor import Supervisor, running, spawn
from client.stack.tenants import add
from shared.settings import StreamSizes

READY_S = 60.0
TRIES = 3
BUSY = "another `penstock up` or `down` is at work on {data}; try again when it is done"


@dataclass(frozen=True)
class Stopped:
    """What `down` found: whether a supervisor was there, and how many processes had to be ended without one."""

    was_running: bool
    strays: int


def up(
    data: Path,
    ready_s: float = READY_S,
    services: Mapping[str, str] = SERVICES,
    tenants: Sequence[str] = (DEFAULT_TENANT,),
) -> StackInfo:
    """Start the stack of this data folder, or find it running; returns when all of it answers.

    Passwords are made where there are none; tenants that were there before stay. What a crash left behind is ended
    first. Raises StackError with the cause, and then nothing of it runs.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(data / ".lock", BUSY.format(data=data)):
        info = load(data)
        if info and (supervisor := running(info)):
            return _revive(info, supervisor, ready_s, tenants)
        sweep(data)
        known = secrets.load(data).complete(services, (DEFAULT_TENANT, *tenants))
        known = known.sized(StreamSizes.from_environment())
        secrets.save(data, known)
        for left in range(TRIES - 1, -1, -1):
            try:
                return _start(plan(data, services, known, info), known, ready_s)
            except PortTaken:
                info = None  # other ports, then
                if not left:
                    raise
    raise AssertionError("unreachable")


def down(data: Path) -> Stopped:
    """Stop the stack: services finish what they hold, then nothing is left running, whatever state it was in."""
    if not data.is_dir():
        return Stopped(was_running=False, strays=0)
    with locked(data / ".lock", BUSY.format(data=data)):
        info = load(data)
        supervisor = running(info)
        if info and supervisor:
            _shut(info, supervisor)
        strays = sweep(data)
        if info:
            Path(info.socket).unlink(missing_ok=True)
        forget(data)
        return Stopped(was_running=supervisor is not None, strays=strays)


def status(data: Path) -> StackInfo | None:
    """The stack as it is now, or None where it is not running."""
    info = load(data)
    supervisor = running(info)
    if info is None or supervisor is None:
        return None
    return msgspec.structs.replace(info, processes=supervisor.processes())


def plan(data: Path, services: Mapping[str, str], known: Secrets, before: StackInfo | None = None) -> StackInfo:
    """Addresses for a stack: those it had before where they are still free. The one place that writes URLs."""
    nats, redis = free_ports((before.nats_port, before.redis_port) if before else (0, 0))
    return StackInfo(
        data=str(data),
        nats_url=nats_url(nats, DEFAULT_TENANT, known.tenants[DEFAULT_TENANT]),
        operator_url=nats_url(nats, OPERATOR, known.operators[OPERATOR]),
        redis_url=redis_url(redis, OPERATOR, known.redis[OPERATOR]),
        nats_port=nats,
        redis_port=redis,
        socket=str(socket_folder() / f"{stack_id(data)}.sock"),
        services=dict(services),
        started_at=time.time(),
    )


def _start(info: StackInfo, known: Secrets, ready_s: float) -> StackInfo:
    write_all(info, known)
    watch = Watch(info, log_sizes(Path(info.data)))
    try:
        info = msgspec.structs.replace(info, supervisor_pid=spawn(info))
        save(info)
        asyncio.run(wait_ready(info, watch, ready_s, known.accounts))
    except BaseException:  # Ctrl-C too: a stack that is not ready must not go on running
        _stop_all(info)
        raise
    return _recorded(info)


def _revive(info: StackInfo, supervisor: Supervisor, ready_s: float, tenants: Sequence[str]) -> StackInfo:
    """The stack runs; make sure that all of it does, with these tenants."""
    site = Embedded(info)
    watch = Watch(info, log_sizes(Path(info.data)))
    supervisor.start_missing()
    asyncio.run(wait_ready(info, watch, ready_s, site.known().accounts))
    for tenant in tenants:
        if tenant not in site.known().tenants:
            asyncio.run(add(site, tenant))
    return _recorded(info)


class Embedded:
    """A running stack as the site of its tenants (client.stack.tenants)."""

    def __init__(self, info: StackInfo) -> None:
        self._info = info
        self._data = Path(info.data)

    def known(self) -> Secrets:
        return secrets.load(self._data)

    def keep(self, known: Secrets) -> None:
        secrets.save(self._data, known)
        self._info = msgspec.structs.replace(
            self._info, nats_url=self.url(DEFAULT_TENANT, known.tenants[DEFAULT_TENANT])
        )
        save(self._info)

    def configure(self, known: Secrets, joining: Collection[str] = ()) -> None:
        write_nats(self._info, known, joining)

    def url(self, user: str, password: str) -> str:
        return nats_url(self._info.nats_port, user, password)

    def answers(self) -> bool:
        return True


@contextmanager
def running_site(data: Path) -> Iterator[Embedded]:
    """The site of the stack in this folder, for one change at a time. Raises Unreachable where it does not run."""
    missing = Unreachable(f"no stack is running in {data}; start one with: penstock up")
    if not data.is_dir():
        raise missing
    with locked(data / ".lock", BUSY.format(data=data)):
        info = load(data)
        if info is None or running(info) is None:
            raise missing
        yield Embedded(info)


def _recorded(info: StackInfo) -> StackInfo:
    info = msgspec.structs.replace(info, processes=Supervisor(info.socket).processes())
    save(info)
    return info


def _stop_all(info: StackInfo) -> None:
    sweep(Path(info.data))
    Path(info.socket).unlink(missing_ok=True)
    forget(Path(info.data))


def _shut(info: StackInfo, supervisor: Supervisor) -> None:
    """Wait for supervisord to stop everything in its order. What is left then, the sweep that follows ends."""
    end = time.monotonic() + 2 * DRAIN_S + 5
    with suppress(OSError):
        supervisor.shutdown()
    while alive(info.supervisor_pid) and time.monotonic() < end:
        with suppress(OSError):
            supervisor.pid()  # each question wakes supervisord, which else looks around once a second
        time.sleep(0.05)
