"""A ladder of scripted endpoints, an extractive reader and a text, for replicas of generate that share a Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis

from contracts import subjects
from contracts.item import Input, Item, Message, Passage
from contracts.job import TokenDelta
from contracts.steps import Generate, Judge
from contracts.task import Task
from loadtest.scripted_model import Reply, ScriptedModel
from services.generate_gpu.adapters.breakers import RedisBreakers
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.domain.breaker import Permit, Told
from services.generate_gpu.domain.completion import Engine
from services.generate_gpu.engines.canned import Canned
from services.generate_gpu.engines.extractive import Extractive
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.attempts import RedisAttempts
from shared.breakers import key
from shared.encoder import Encoder
from shared.models import Breaker, Catalogue, Model, Patience, Price, Timeout

NOW = 1_800_000_000.0
PASSAGE = Passage("a#1", "a", "Rules", "A password must have at least fourteen characters.")
QUESTION = "How many characters must a password have?"
SLOW = Breaker(slow_s=0.3, open_s=30)
SORRY = "We cannot answer now."
DOWN = Reply("overloaded", status=503)


@dataclass
class Scene:
    """Two endpoints, and replicas of generate that share a Redis."""

    large: ScriptedModel
    spare: ScriptedModel
    redis: "Redis"
    fallback: tuple[str, ...] = ("spare", "extractive", "sorry")
    breaker: Breaker = field(default_factory=lambda: Breaker(slow_s=60, open_s=30))
    patience: Patience = field(default_factory=Patience)
    heard: list[TokenDelta] = field(default_factory=list)
    tries: int = 3
    connections: int = 64
    used: int = 0

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append(msgspec.json.decode(payload, type=TokenDelta))

    def replica(self) -> Workshop:
        def endpoint(name: str, server: ScriptedModel, **more: object) -> Model:
            return Model.model_validate(
                {"name": name, "engine": "openai", "base_url": server.url, "id": name, "timeout": Timeout()}
                | {"tools": "native", "breaker": self.breaker, "patience": self.patience} | more
            )  # fmt: skip

        models = (
            endpoint("large", self.large, fallback=self.fallback, price=Price(completion=100.0), default=True),
            endpoint("spare", self.spare, price=Price(completion=1.0)),
            Model(name="extractive", engine="extractive"),
            Model(name="sorry", engine="canned", text=SORRY),
        )
        engines: dict[str, Engine] = {
            "large": OpenAI(models[0], self.connections),
            "spare": OpenAI(models[1], self.connections),
            "extractive": Extractive(models[2], Encoder(), 1),
            "sorry": Canned(models[3]),
        }
        return Workshop(
            Catalogue(models=models), engines, RedisLedger(self.redis, 60), self, RedisAttempts(self.redis),
            tries=self.tries, breakers=RedisBreakers(self.redis), clock=lambda: NOW,
        )  # fmt: skip

    async def run(self, task: Task, workshop: Workshop | None = None, **step: object) -> list[Item]:
        return await generate(task, replace(Generate(model="large"), **step), workshop or self.replica())

    async def ask(self, workshop: Workshop | None = None, **step: object) -> Item:
        """One interactive question of its own."""
        (done,) = await self.run(shard(item(0), id=f"acme/ask-{self._next()}/0"), workshop, **step)
        return done

    def _next(self) -> int:
        self.used += 1
        return self.used

    async def open(self, model: str = "large") -> None:
        """As if calls had failed three times in a row."""
        workshop = self.replica()
        for _ in range(3):
            found = workshop.catalogue.get(model)
            permit = await workshop.breakers.ask(found)
            assert isinstance(permit, Permit)
            await workshop.breakers.tell(found, permit, Told("failed", why="it answered 503"))

    async def pause_is_over(self) -> None:
        await self.redis.hset(key("large"), "until", 1)


@asynccontextmanager
async def open_scene(redis: "Redis") -> AsyncIterator[Scene]:
    async with ScriptedModel.running() as large, ScriptedModel.running() as spare:
        yield Scene(large, spare, redis)


def item(n: int, **fields: object) -> Item:
    given = Item(n=n, input=Input(question=QUESTION), messages=[Message("user", QUESTION)], passages=[PASSAGE])
    return replace(given, **fields)


def shard(*items: Item, **fields: object) -> Task:
    task = Task(
        id="acme/j1/0", tenant="acme", job="j1", pattern="rag", items=list(items),
        steps=[Generate(), Judge("grounding")], group=subjects.job_group("acme", "j1"), index=0,
    )  # fmt: skip
    return replace(task, **fields)


def batch(*items: Item, **fields: object) -> Task:
    return shard(*items, lane="batch", **fields)


def said(done: Item) -> tuple[str, str, str]:
    assert done.answer is not None, done.failure
    return done.answer.text, done.answer.model, done.answer.rung
