"""Which prefixes a replica says that it holds: those of calls that succeeded on the model that was asked for."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from contracts.item import Completion, Input, Item, Message
from contracts.steps import Generate
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.domain.completion import CompletionRequest, Engine, OnBegin, OnDelta, unheard
from services.generate_gpu.handlers import Workshop, generate
from shared.errors import ItemError, Retryable
from shared.models import Catalogue, Model


@dataclass
class Plain:
    """Answers, or fails, or waits."""

    error: ItemError | Retryable | None = None
    may: asyncio.Event | None = None
    paid: bool = False
    instant: bool = False

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        if self.may is not None:
            await self.may.wait()
        if self.error is not None:
            raise self.error
        return [Completion("Fine.", "house")]

    async def close(self) -> None:
        """Nothing to close."""


class Kept(Plain):
    def ready(self) -> bool:
        return True

    async def warm(self, request: CompletionRequest) -> None:
        """Nothing to compute."""


@dataclass
class Silent:
    heard: list[str] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append(subject)


def workshop(**engines: Engine) -> Workshop:
    """Models of these engines; each falls back on the next."""
    names = list(engines)
    after = dict(zip(names, [*((name,) for name in names[1:]), ()], strict=True))
    models = [
        Model(name=name, engine="openai", base_url="http://nowhere", id=name, fallback=after[name], default=not place)
        for place, name in enumerate(names)
    ]
    known: Mapping[str, Engine] = engines
    return Workshop(Catalogue(models=tuple(models)), known, MemoryLedger(), Silent(), tries=1)


async def run(shop: Workshop) -> list[Item]:
    items = [Item(n=n, input=Input("Why?"), messages=[Message("user", "Why?")]) for n in range(2)]
    task = Task("t", "acme", "j1", "direct", items, steps=[], group="acme/j1", index=0)
    return await generate(task, Generate(model="house", prefix="key", stream=False), shop)


async def test_a_prefix_is_held_once_a_call_has_succeeded() -> None:
    may = asyncio.Event()
    shop = workshop(house=Kept(may=may))
    running = asyncio.create_task(run(shop))
    await asyncio.sleep(0.05)
    assert shop.load.running == 2
    assert not shop.load.known("key"), "it may still fail"
    may.set()
    assert all(item.alive for item in await running)
    assert shop.load.known("key")
    assert shop.load.running == 0


@pytest.mark.parametrize("error", [ItemError("too_large", "9000 tokens"), Retryable("the engine is away")])
async def test_what_failed_or_was_refused_is_not_held(error: ItemError | Retryable) -> None:
    shop = workshop(house=Kept(error))
    assert not any(item.alive for item in await run(shop))
    assert not shop.load.known("key")


async def test_a_backups_answer_says_nothing_about_the_model_that_was_asked_for() -> None:
    shop = workshop(house=Kept(ItemError("upstream", "the engine is away")), backup=Kept())
    assert all(item.alive for item in await run(shop))
    assert not shop.load.known("key")


async def test_a_model_that_keeps_nothing_holds_nothing() -> None:
    shop = workshop(house=Plain())
    assert all(item.alive for item in await run(shop))
    assert not shop.load.known("key")
