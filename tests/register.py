"""Replicas of one model in the test's own process, as far as their place in the register goes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from in_process import Core, GenerateSettings

from contracts.item import Input, Item, Message
from contracts.job import Lane
from contracts.steps import Generate
from contracts.task import Task
from services.generate_gpu.adapters.register import Register
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.load import Load
from services.route.domain.prefix import Beginning
from shared.worker import Worker

MODEL = "house"
HOT, KEY = (Beginning("acme", MODEL, "policy@1", key, (Message("system", key),)) for key in ("hot", "key"))


@dataclass
class Keeper:
    """Computes nothing before it may, and notes what it is asked to; the real engine does it in tests/real_vllm."""

    may: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[CompletionRequest] = field(default_factory=list)
    alive: bool = True

    def ready(self) -> bool:
        return self.alive

    async def warm(self, request: CompletionRequest) -> None:
        await self.may.wait()
        self.requests.append(request)


async def replica(
    core: Core,
    name: str,
    taken: list[str],
    *,
    slots: int = 4,
    at_once: int = 32,
    hang: bool = False,
    until: asyncio.Event | None = None,
    load: Load | None = None,
    engine: Keeper | None = None,
) -> Register:
    """A generate service of one model; it notes what it takes as <name>:<task>. `until`: its tasks take so long."""
    done = until or asyncio.Event()

    async def take(task: Task, step: Generate) -> list[Item]:
        taken.append(f"{name}:{task.id}")
        if hang or until:
            await done.wait()
        return task.items

    worker = core.worker(GenerateSettings(ack_wait_s=30, interactive_slots=at_once))
    worker.on(Generate, take)
    await worker.start()
    register = Register(worker, name, {MODEL: engine or Keeper()}, slots, load or Load())
    await register.open()
    return register


async def silence(register: Register) -> None:
    """What is left of a replica whose process was killed: its consumers, and what they hold."""
    assert register._saying is not None
    register._saying.cancel()
    worker: Worker = register.worker
    for pull in worker._pulls:
        pull._stopped = True
        if pull._watch is not None:
            pull._watch.cancel()
        if pull._subscription is not None:
            await pull._subscription.unsubscribe()


async def send(core: Core, n: int, to: str, lane: Lane = "interactive") -> None:
    task = Task(
        id=f"{core.tenant}/j1/{n}", tenant=core.tenant, job="j1", pattern="p", items=[Item(n=n, input=Input("q"))],
        steps=[Generate(model=MODEL, replica=to)], group=f"{core.tenant}/j1", index=n, lane=lane,
    )  # fmt: skip
    await core.hops.forward(task, {})


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for has no events
            await asyncio.sleep(0.02)
