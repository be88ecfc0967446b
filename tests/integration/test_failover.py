"""Jobs through an outage: two workers of generate on real servers, a scripted provider, and route to report."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from in_process import Core, GenerateSettings, eventually, question
from msgspec.structs import replace

from contracts import subjects
from contracts.events import Hop
from contracts.item import Item, Message
from contracts.job import Lane
from contracts.steps import Generate
from loadtest.scripted_model import Call, Reply, ScriptedModel
from services.generate_gpu.adapters.breakers import RedisBreakers
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.domain.shares import Shares
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.breakers import open_breakers
from shared.models import Breaker, Catalogue, Model, Patience, Timeout

pytestmark = pytest.mark.servers

DOWN = Reply("overloaded", status=503)


class Nobody:
    async def publish(self, subject: str, payload: bytes) -> None:
        """Nobody reads along."""


@dataclass
class Provider:
    """Two endpoints, and the workers that call them."""

    core: Core
    large: ScriptedModel
    spare: ScriptedModel
    patience: Patience = field(default_factory=Patience)
    breaker: Breaker = field(default_factory=lambda: Breaker(open_s=0.2, open_max_s=0.4))
    shares: Shares = field(default_factory=lambda: Shares(1000))
    silence_s: float = 5.0

    async def work(self, workers: int = 2, settings: GenerateSettings | None = None) -> None:
        await self.core.route()
        for _ in range(workers):
            workshop = self._workshop()
            worker = self.core.worker(settings or GenerateSettings(ack_wait_s=2, attempts=3))
            worker.on(Generate, lambda task, step, workshop=workshop: generate(task, step, workshop))  # type: ignore[misc]  # the default binds it
            await worker.start()

    def _workshop(self) -> Workshop:
        def endpoint(name: str, server: ScriptedModel, **more: object) -> Model:
            return Model.model_validate(
                {"name": name, "engine": "openai", "base_url": server.url, "id": name, "breaker": self.breaker}
                | {"timeout": Timeout(read=self.silence_s), "patience": self.patience} | more
            )  # fmt: skip

        models = (endpoint("large", self.large, fallback=("spare",), default=True), endpoint("spare", self.spare))
        return Workshop(
            Catalogue(models=models), {model.name: OpenAI(model) for model in models},
            RedisLedger(self.core.redis, 60), Nobody(), tries=3, breakers=RedisBreakers(self.core.redis),
            shares=self.shares,
        )  # fmt: skip

    async def job(self, shards: int, lane: Lane, job: str = "j1", model: str = "large") -> None:
        items = [[prompt(3 * shard + n) for n in range(3)] for shard in range(shards)]
        await self.core.start_job([Generate(model)], items, lane=lane, job=job, deadline=time.time() + 3600)

    async def hops(self, job: str = "j1") -> list[Hop]:
        raw = await self.core.messages("EVENTS", subjects.events(self.core.tenant, job))
        return [hop for one in raw if (hop := msgspec.json.decode(one, type=Hop)).step == "generate"]


@pytest.fixture
async def provider(core: Core) -> AsyncIterator[Provider]:
    async with ScriptedModel.running() as large, ScriptedModel.running() as spare:
        yield Provider(core, large, spare)


def prompt(n: int) -> Item:
    return replace(question(n), messages=[Message("user", f"question {n}")])


async def test_a_batch_waits_through_an_outage_and_every_item_is_answered_by_its_model_once(provider: Provider) -> None:
    await provider.work()
    provider.large.when(".", *[DOWN] * 8, "fine")
    await provider.job(shards=6, lane="batch")
    report = await provider.core.report(seconds=60)
    assert (report.succeeded, report.failed, report.rungs) == (18, 0, {})
    assert report.usage.calls == 18
    assert provider.large.calls() == 18 + 8, "nothing was bought twice"
    assert provider.spare.calls() == 0
    assert any("waits for the model 'large'" in hop.error for hop in await provider.hops())
    assert await provider.core.dead() == []
    assert await open_breakers(provider.core.redis) == []


async def test_a_batch_without_patience_and_people_are_answered_by_the_backup_and_the_report_says_so(
    provider: Provider,
) -> None:
    provider.patience = Patience(batch=0)
    await provider.work()
    provider.large.when(".", DOWN)
    provider.spare.when(".", "fine")
    await provider.job(shards=4, lane="batch", job="crowd")
    await provider.job(shards=2, lane="interactive", job="people")
    for job, size in (("crowd", 12), ("people", 6)):
        report = await provider.core.report(job, seconds=60)
        assert (report.succeeded, report.rungs) == (size, {"backup": size})
        result = (await provider.core.shard(job=job)).items[0]
        assert result.answer is not None
        assert (result.answer.rung, result.answer.model) == ("backup", "spare")

    async def told() -> bool:
        return sum(hop.rungs.get("backup", 0) for hop in await provider.hops("people")) == 6

    await eventually(told)
    assert all("the model 'large'" in hop.why for hop in await provider.hops("people"))


async def test_who_asks_another_model_does_not_wait_behind_one_that_hangs(provider: Provider) -> None:
    """Many more ask the one that hangs than there are slots, and nothing ends it before the others are answered."""
    may = asyncio.Event()

    async def hang(call: Call) -> Reply:
        await may.wait()
        return Reply("at last")

    provider.large.answer = hang
    provider.spare.when(".", "fine")
    provider.breaker, provider.silence_s = Breaker(slow_s=600), 600
    settings = GenerateSettings(interactive_slots=8, ack_wait_s=30)
    provider.shares = Shares(settings.interactive_slots)
    await provider.work(1, settings)
    await provider.job(shards=40, lane="interactive", job="stuck")
    await eventually(lambda: provider.shares.most("spare") < settings.interactive_slots)
    await provider.job(shards=10, lane="interactive", job="well", model="spare")
    report = await provider.core.report("well", seconds=30)
    assert (report.succeeded, report.rungs) == (30, {})
    assert not may.is_set()
    may.set()
    report = await provider.core.report("stuck", seconds=60)
    assert (report.succeeded, report.failed) == (120, 0), "those that had to wait are answered too"


async def test_without_a_rung_left_items_fail_with_the_reason_of_each(provider: Provider) -> None:
    await provider.work()
    provider.large.when(".", DOWN)
    provider.spare.when(".", Reply("no such model", status=404))
    await provider.job(shards=1, lane="interactive")
    report = await provider.core.report(seconds=60)
    assert report.reasons == {"upstream": 3}
    assert "no model of large, spare answers: the model 'large'" in report.failures[0].reason
    assert "the model 'spare'" in report.failures[0].reason
