"""Replicas of generate under limits, around two scripted endpoints and a real Redis; and time that passes in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis

from contracts.item import Failure, Input, Item, Message
from contracts.job import Lane
from contracts.steps import Generate
from contracts.task import Task
from loadtest.scripted_model import ScriptedModel
from services.generate_gpu.adapters.breakers import RedisBreakers
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.adapters.limits import RedisLimiter, Used
from services.generate_gpu.domain.breaker import Permit, Told, Unguarded
from services.generate_gpu.domain.completion import Engine
from services.generate_gpu.domain.permits import Limited, Unlimited
from services.generate_gpu.engines.canned import Canned
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.breakers import key
from shared.limits import Limits
from shared.models import Breaker, Catalogue, Model, Patience, Price, Timeout

PRICE = Price(prompt=1.0, completion=10.0)


@dataclass
class Scene:
    """Replicas of generate that share a Redis and have the same limits."""

    model: ScriptedModel
    spare: ScriptedModel
    redis: "Redis"
    limits: Limits = field(default_factory=Limits)
    fallback: tuple[str, ...] = ()
    breaker: Breaker = field(default_factory=lambda: Breaker(slow_s=60, open_s=60))
    patience: Patience = field(default_factory=Patience)
    guarded: bool = False  # by breakers
    window_s: int = 60
    met: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    cancelled: dict[str, str] = field(default_factory=dict)
    heard: list[bytes] = field(default_factory=list)
    asked: int = 0

    def limit(self, **allowance: Any) -> None:
        self.limits = Limits.model_validate({"tenants": {"acme": allowance}})

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append(payload)

    @property
    def limiter(self) -> RedisLimiter:
        return RedisLimiter(self.redis, self.limits.batch, self.limits.reserve_s, 3600, self.window_s)

    @property
    def breakers(self) -> RedisBreakers:
        return RedisBreakers(self.redis)

    async def leave_alone(self, name: str) -> None:
        """As if its calls had failed three times in a row."""
        model = self.replica().catalogue.get(name)
        for _ in range(3):
            permit = await self.breakers.ask(model)
            assert isinstance(permit, Permit)
            await self.breakers.tell(model, permit, Told("failed", why="it answered 503"))

    async def pause_is_over(self, name: str) -> None:
        await self.redis.hset(key(name), "until", 1)

    def replica(self, limiter: RedisLimiter | None = None, **more: Any) -> Workshop:
        def endpoint(name: str, server: ScriptedModel, **more: Any) -> Model:
            return Model(
                name=name, engine="openai", base_url=server.url, id=name, price=PRICE,
                timeout=Timeout(connect=1.0, read=5.0), breaker=self.breaker, patience=self.patience, **more,
            )  # fmt: skip

        models = (
            endpoint("large", self.model, fallback=self.fallback),
            endpoint("spare", self.spare),
            Model(name="noop", engine="noop", default=True),
            Model(name="sorry", engine="canned", text="We cannot answer now."),
        )
        engines: dict[str, Engine] = {
            "large": OpenAI(models[0]), "spare": OpenAI(models[1]), "noop": Noop(models[2]), "sorry": Canned(models[3]),
        }  # fmt: skip
        rules = Limited(self.limits, limiter or self.limiter, lambda *seen: self.met.append(seen))
        return Workshop(
            Catalogue(models=models), engines, RedisLedger(self.redis, 60), self, tries=3,
            limits=Unlimited() if self.limits.none else rules, cancelled=lambda tenant, job: self.cancelled.get(job),
            breakers=self.breakers if self.guarded else Unguarded(), **more,
        )  # fmt: skip

    async def run(self, task: Task, workshop: Workshop | None = None, **step: Any) -> list[Item]:
        return await generate(
            task, replace(Generate(model="large", max_tokens=100), **step), workshop or self.replica()
        )

    async def ask(self, workshop: Workshop | None = None, **step: Any) -> Item:
        """One question of somebody who waits."""
        self.asked += 1
        (done,) = await self.run(shard(item(0), id=f"acme/ask-{self.asked}/0"), workshop, **step)
        return done

    async def used(self, tenant: str = "acme") -> Used:
        return (await self.limiter.look(list(self.limits.of_tenant(tenant)))).scopes[0]

    async def used_of(self, model: str) -> Used:
        return (await self.limiter.look(list(self.limits.of_model(model)))).scopes[0]


@asynccontextmanager
async def open_scene(redis: "Redis") -> AsyncIterator[Scene]:
    async with ScriptedModel.running() as model, ScriptedModel.running() as spare:
        yield Scene(model, spare, redis)


async def pass_time(redis: "Redis", scope: str, seconds: int) -> None:
    """As if what was counted by the second, and what is reserved, were so much older: scope `tenant:acme`."""
    name = f"{{limits}}:{scope}"
    counted: dict[Any, Any] = await redis.hgetall(name)
    slots = {field: value for field, value in counted.items() if field[:1] in b"rt"}
    if slots:
        await redis.hdel(name, *slots)
        await redis.hset(name, mapping={f"{chr(at[0])}{int(at[1:]) - seconds}": value for at, value in slots.items()})
    holds: dict[Any, Any] = await redis.hgetall(f"{name}:holds")
    for call, hold in holds.items():
        nano, tokens, at = hold.split()
        await redis.hset(f"{name}:holds", call, b"%b %b %d" % (nano, tokens, int(at) - seconds))
        await redis.zincrby(f"{name}:open", -seconds, call)


def item(n: int, **fields: Any) -> Item:
    text = f"question {n}"
    return replace(Item(n=n, input=Input(question=text), messages=[Message("user", text)]), **fields)


def shard(*items: Item, lane: Lane = "interactive", **fields: Any) -> Task:
    task = Task(
        id="acme/j1/0", tenant="acme", job="j1", pattern="direct", items=list(items), steps=[], group="acme/j1", index=0
    )
    return replace(task, lane=lane, **fields)


def failure(done: Item) -> Failure:
    assert done.failure is not None
    return done.failure
