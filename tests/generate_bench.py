"""A workshop of generate around a scripted model, for tests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from contracts.item import Completion, Input, Item, Message
from contracts.job import TokenDelta
from contracts.steps import Generate
from contracts.task import Task
from loadtest.scripted_model import ScriptedModel
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.domain.completion import Around, CompletionRequest, Engine, OnBegin, OnDelta, unheard
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.attempts import MemoryAttempts
from shared.models import Catalogue, Model, Price, Timeout


@dataclass
class Listener:
    """Keeps what is published."""

    heard: list[tuple[str, TokenDelta]] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append((subject, msgspec.json.decode(payload, type=TokenDelta)))


@dataclass
class Bench:
    """A workshop around a scripted model."""

    model: ScriptedModel
    listener: Listener = field(default_factory=Listener)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    attempts: MemoryAttempts = field(default_factory=MemoryAttempts)
    cancelled: dict[str, str] = field(default_factory=dict)
    tries: int = 3

    @property
    def workshop(self) -> Workshop:
        large = Model(
            name="large",
            engine="openai",
            base_url=self.model.url,
            id="scripted",
            context=8192,
            price=Price(prompt=1.0, cached=0.1, completion=10.0),
            timeout=Timeout(connect=1.0, read=5.0, total=10.0),
            tools="native",
        )
        noop = Model(name="noop", engine="noop", context=8192, default=True)
        engines: Mapping[str, Engine] = {"large": OpenAI(large), "noop": Noop(noop)}
        return Workshop(
            catalogue=Catalogue(models=(large, noop)),
            engines=engines,
            ledger=self.ledger,
            publisher=self.listener,
            attempts=self.attempts,
            tries=self.tries,
            cancelled=lambda tenant, job: self.cancelled.get(job),
        )

    async def run(self, task: Task, **step: object) -> list[Item]:
        return await generate(task, replace(Generate(model="large"), **step), self.workshop)


class Faulty(Around):
    """Has a fault that one question brings out."""

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        if request.messages[-1].content == "question 0":
            raise TypeError("unforeseen")
        return await self.engine.complete(request, on_delta, on_begin)


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    async with ScriptedModel.running() as model:
        yield Bench(model)


def item(n: int, text: str = "", **fields: object) -> Item:
    question = text or f"question {n}"
    return replace(Item(n=n, input=Input(question=question), messages=[Message("user", question)]), **fields)


def shard(*items: Item, **fields: object) -> Task:
    task = Task(
        id="acme/j1/0", tenant="acme", job="j1", pattern="direct", items=list(items), steps=[], group="g", index=0
    )
    return replace(task, **fields)
