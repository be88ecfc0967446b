"""What a stack is doing now: who is there, what waits, and what it takes of this machine."""

from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from redis.asyncio import Redis

from client.client import Penstock
from client.discovery import PREFIX, Stats, discover
from client.stack import StackInfo
from client.stack.processes import memory
from contracts.subjects import CONTROL, JOBS, STREAMS
from shared.breakers import OpenBreaker, open_breakers
from shared.bus import answered

LISTEN_S = 0.5


class Replica(Struct):
    """One process of a service that answers discovery."""

    id: str
    replica: str
    started: str


class ServiceView(Struct):
    """A service by its name; no replicas: nobody answers."""

    name: str
    replicas: list[Replica]


class ConsumerView(Struct):
    """A consumer of a stream: `waiting` were not delivered yet, `in_progress` were and are not settled."""

    name: str
    waiting: int
    in_progress: int
    redelivered: int


class StreamView(Struct):
    """A stream and its depth."""

    name: str
    messages: int
    bytes: int
    consumers: list[ConsumerView]


class ProcessView(Struct):
    """A process of the embedded stack; memory in bytes, shared pages counted in proportion."""

    name: str
    pid: int
    state: str
    memory: int


class Overview(Struct):
    """Everything that `penstock status` shows."""

    nats_url: str
    data: str
    services: list[ServiceView]
    streams: list[StreamView]
    processes: list[ProcessView]
    memory: int
    breakers: list[OpenBreaker] = []  # models that are left alone; known where the stack is that of the data folder

    @property
    def missing(self) -> list[str]:
        return [service.name for service in self.services if not service.replicas]


async def overview(penstock: Penstock, url: str, expected: list[str], stack: StackInfo | None) -> Overview:
    """Ask services, streams and the process manager."""
    processes = [
        ProcessView(process.name, process.pid, process.state, memory(process.pid) if process.pid else 0)
        for process in (stack.processes if stack else [])
    ]
    if stack:
        processes.append(ProcessView("supervisord", stack.supervisor_pid, "RUNNING", _own_memory(stack, processes)))
    bus = penstock.bus
    of_tenants = [*await bus.queues(), *await bus.controls()]
    names = [*of_tenants, *(stream.name for stream in STREAMS if stream not in (JOBS, CONTROL))]
    return Overview(
        nats_url=url,
        data=stack.data if stack else "",
        services=await _services(penstock, expected),
        streams=[view for name in names if (view := await _stream(bus.js, name))],
        processes=processes,
        memory=sum(process.memory for process in processes),
        breakers=await find_breakers(stack.redis_url) if stack else [],
    )


async def find_breakers(redis_url: str) -> list[OpenBreaker]:
    """Models that are left alone. Raises Retryable where Redis does not answer."""
    async with Redis.from_url(redis_url, socket_connect_timeout=2) as redis:
        return await open_breakers(redis)


def _own_memory(stack: StackInfo, children: list[ProcessView]) -> int:
    """`memory` counts a process with its children; supervisord's are the programs, which are listed by themselves."""
    return max(0, memory(stack.supervisor_pid) - sum(child.memory for child in children))


async def _services(penstock: Penstock, expected: list[str]) -> list[ServiceView]:
    views = {name: ServiceView(name, []) for name in expected}
    for stats in await discover(penstock.nc, "STATS", Stats, listen_s=LISTEN_S):
        if not stats.name.startswith(PREFIX):
            continue
        name = stats.name.removeprefix(PREFIX)
        view = views.setdefault(name, ServiceView(name, []))
        view.replicas.append(Replica(stats.id, stats.metadata.get("replica", ""), stats.started))
    return list(views.values())


async def _stream(js: JetStreamContext, name: str) -> StreamView | None:
    try:
        info = await answered(js.stream_info(name))
    except NotFoundError:
        return None
    consumers = [
        ConsumerView(
            consumer.name or "",
            consumer.num_pending or 0,
            consumer.num_ack_pending or 0,
            consumer.num_redelivered or 0,
        )
        for consumer in await answered(js.consumers_info(name))
    ]
    return StreamView(name, info.state.messages, info.state.bytes, consumers)
