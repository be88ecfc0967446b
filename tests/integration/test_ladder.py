"""The ladder: scripted endpoints, the extractive reader and a text behind them, breakers in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from contracts import subjects
from contracts.item import Input, Item, Message, Part, Passage
from contracts.job import TokenDelta
from contracts.steps import Decide, Generate, Judge
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
from shared.breakers import key, open_breakers
from shared.encoder import Encoder
from shared.errors import Later, Retryable
from shared.models import Breaker, Catalogue, Model, Patience, Price, Timeout
from shared.results import tally

pytestmark = pytest.mark.servers

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
    used: int = 0

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append(msgspec.json.decode(payload, type=TokenDelta))

    def replica(self) -> Workshop:
        def endpoint(name: str, server: ScriptedModel, **more: object) -> Model:
            return Model.model_validate(
                {"name": name, "engine": "openai", "base_url": server.url, "id": name, "timeout": Timeout()}
                | {"breaker": self.breaker, "patience": self.patience} | more
            )  # fmt: skip

        models = (
            endpoint("large", self.large, fallback=self.fallback, price=Price(completion=100.0), default=True),
            endpoint("spare", self.spare, price=Price(completion=1.0)),
            Model(name="extractive", engine="extractive"),
            Model(name="sorry", engine="canned", text=SORRY),
        )
        engines: dict[str, Engine] = {
            "large": OpenAI(models[0]),
            "spare": OpenAI(models[1]),
            "extractive": Extractive(models[2], Encoder(), 1),
            "sorry": Canned(models[3]),
        }
        return Workshop(
            Catalogue(models=models), engines, RedisLedger(self.redis, 60), self, tries=self.tries,
            breakers=RedisBreakers(self.redis), clock=lambda: NOW,
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


@pytest.fixture
async def scene(redis_server: str) -> AsyncIterator[Scene]:
    redis: Redis = Redis.from_url(redis_server)
    await redis.flushdb()
    async with ScriptedModel.running() as large, ScriptedModel.running() as spare:
        yield Scene(large, spare, redis)
    await redis.aclose()


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


async def test_the_model_that_was_asked_for_answers_and_says_nothing_of_rungs(scene: Scene) -> None:
    scene.large.when(".", "Fourteen.")
    done = await scene.ask()
    assert said(done) == ("Fourteen.", "large", "primary")
    assert done.answer is not None
    assert done.answer.why == ""
    assert scene.spare.calls() == 0


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (DOWN, "the model 'large' answered 503: overloaded"),
        (Reply("slow down", status=429, headers={"Retry-After": "30"}), "the model 'large' answered 429: slow down"),
        (Reply(fault="reset"), "the model 'large': the connection failed"),
        (Reply(fault="hang"), "the model 'large' said nothing within 2 s"),
        (Reply("late", delay_s=20), "the model 'large' said nothing within 2 s"),
        (Reply("no such model", status=404), "the model 'large' answered 404: no such model"),
        (Reply("bad key", status=401), "the model 'large' refuses a call without a key (401)"),
        (Reply("broke", status=429, code="insufficient_quota"), "the model 'large' answered 429: broke"),
    ],
)
async def test_who_waits_hears_the_backup_at_once_and_why(scene: Scene, reply: Reply, why: str) -> None:
    scene.breaker = Breaker(slow_s=2, open_s=30)
    scene.large.when(".", reply)
    scene.spare.when(".", Reply("Fourteen.", completion_tokens=1000))
    done = await scene.ask()
    assert said(done) == ("Fourteen.", "spare", "backup")
    assert done.answer is not None
    assert done.answer.why.startswith(why)
    assert done.answer.mode == "generated"
    assert done.usage.cost_usd == pytest.approx(0.001), "priced as the model that made it"
    assert (scene.large.calls(), scene.spare.calls()) == (1, 1)


async def test_without_a_model_the_reader_quotes_and_says_that_this_is_degraded(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    done = await scene.ask()
    assert done.answer is not None
    assert said(done) == (PASSAGE.text, "extractive", "degraded")
    assert (done.answer.mode, done.answer.quotes[0].text, done.answer.escalate) == ("degraded", PASSAGE.text, False)
    assert done.answer.why == "the model 'large' answered 503: overloaded; the model 'spare' answered 503: overloaded"
    assert tally([done]).rungs == {"degraded": 1}


async def test_with_nothing_to_quote_there_is_a_text_that_calls_for_a_person(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    (done,) = await scene.run(shard(item(0, passages=[])))
    assert done.answer is not None
    assert said(done) == (SORRY, "sorry", "degraded")
    assert (done.answer.mode, done.answer.escalate) == ("degraded", True)
    assert "the model 'extractive' has nothing to quote" in done.answer.why


@pytest.mark.parametrize(
    "fields",
    [
        {"group": "acme/j1/0/3"},  # a sample, a section
        {"steps": [Generate(), Decide()]},  # a draft
    ],
)
async def test_the_text_is_never_taken_for_a_part_of_something(scene: Scene, fields: dict[str, object]) -> None:
    scene.fallback = ("sorry",)
    scene.large.when(".", Reply("no", status=404))
    (done,) = await scene.run(shard(item(0), **fields))
    assert done.failure is not None
    assert (done.failure.code, done.failure.reason) == (
        "upstream",
        "no model of large, sorry answers: the model 'large' answered 404: no; "
        "the model 'sorry' has one text, which is no use here",
    )


async def test_a_schema_is_filled_by_models_that_write_or_not_at_all(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", DOWN)
    task = shard(item(0))
    for _ in range(scene.tries - 1):
        with pytest.raises(Retryable, match="no model of large, spare, extractive, sorry answers"):
            await scene.run(task, schema={"type": "object"})
    (done,) = await scene.run(task, schema={"type": "object"})
    assert done.failure is not None
    assert done.failure.code == "upstream"
    assert done.failure.reason.startswith("given up after 3 calls: no model of large, spare, extractive, sorry answers")


async def test_an_items_own_fault_is_not_passed_down(scene: Scene) -> None:
    scene.large.when(".", Reply("prompt is too long", status=400))
    done = await scene.ask()
    assert done.failure is not None
    assert done.failure.code == "too_large"
    assert scene.spare.calls() == 0


async def test_what_is_made_of_a_degraded_part_is_degraded(scene: Scene) -> None:
    scene.large.when(".", "All in all.")
    part = Part(0, "a quote", rung="degraded", why="the model 'large' was away")
    (done,) = await scene.run(shard(item(0, parts=[Part(1, "a summary"), part])))
    assert done.answer is not None
    assert (done.answer.rung, done.answer.why) == ("degraded", "the model 'large' was away")


def busy(seconds: int) -> Reply:
    return Reply("slow down", status=429, headers={"Retry-After": str(seconds)})


async def test_a_model_that_said_retry_after_is_left_alone_and_the_backup_answers(scene: Scene) -> None:
    scene.large.when(".", busy(30))
    scene.spare.when(".", "Fourteen.")
    replicas = [scene.replica(), scene.replica()]
    for n in range(4):
        assert said(await scene.ask(replicas[n % 2]))[1] == "spare"
    assert scene.large.calls() == 1


async def test_where_all_rungs_said_retry_after_the_task_comes_back_when_the_first_may_be_called(scene: Scene) -> None:
    scene.fallback = ("spare",)
    scene.large.when(".", busy(40))
    scene.spare.when(".", busy(20))
    for calls in (1, 1):
        with pytest.raises(Retryable, match="no model of large, spare answers") as caught:
            await scene.ask()
        assert caught.value.after == pytest.approx(20, abs=2)
        assert (scene.large.calls(), scene.spare.calls()) == (calls, calls)


async def test_a_rung_that_names_no_time_does_not_hide_that_of_another(scene: Scene) -> None:
    scene.fallback = ("spare",)
    scene.large.when(".", busy(40))
    scene.spare.when(".", DOWN)
    with pytest.raises(Retryable) as caught:
        await scene.ask()
    assert caught.value.after == 40


async def test_a_batch_waits_out_a_retry_after_without_a_call_or_an_attempt(scene: Scene) -> None:
    scene.large.when(".", busy(30), "Fourteen.")
    with pytest.raises(Retryable) as first:
        await scene.run(batch(item(0)))
    assert (type(first.value), first.value.after) == (Retryable, 30)
    for _ in range(scene.tries + 2):
        with pytest.raises(Later, match="waits for the model 'large': the model 'large' answered 429") as caught:
            await scene.run(batch(item(0)))
        assert 20 < caught.value.after <= 30
    assert (scene.large.calls(), scene.spare.calls()) == (1, 0)
    await scene.redis.hset(key("large"), "notbefore", 1)
    (done,) = await scene.run(batch(item(0)))
    assert said(done) == ("Fourteen.", "large", "primary")


async def test_two_replicas_share_a_breaker_and_leave_the_model_alone(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    replicas = [scene.replica(), scene.replica()]
    for n in range(10):
        assert said(await scene.ask(replicas[n % 2]))[1] == "spare"
    assert scene.large.calls() == 3
    (found,) = await open_breakers(scene.redis)
    assert (found.model, found.why) == ("large", "the model 'large' answered 503: overloaded")
    done = await scene.ask()
    assert done.answer is not None
    assert done.answer.why.startswith("the model 'large' is left alone for ")


async def test_of_many_who_ask_one_makes_the_probe_and_its_success_brings_all_back(scene: Scene) -> None:
    await scene.open()
    await scene.pause_is_over()
    gate = asyncio.Event()

    async def answer(call: object) -> Reply:
        scene.used += 1000
        await gate.wait()
        return Reply("Fourteen.")

    scene.breaker = Breaker(slow_s=30, open_s=30)
    scene.large.answer = answer
    scene.spare.when(".", "Spare.")
    replicas = [scene.replica() for _ in range(8)]
    asks = [asyncio.create_task(scene.ask(replica)) for replica in replicas for _ in range(4)]
    await scene.spare.until(lambda spare: spare.calls() == len(asks) - 1, timeout_s=60)
    gate.set()
    rungs = [said(done)[2] for done in await asyncio.gather(*asks)]
    assert (rungs.count("primary"), rungs.count("backup")) == (1, len(asks) - 1)
    assert scene.used // 1000 == 1, "one probe"
    assert said(await scene.ask())[2] == "primary"


async def test_a_slow_answer_counts_and_is_used_where_nobody_stands_below(scene: Scene) -> None:
    scene.fallback = ()
    scene.breaker = SLOW
    scene.large.when(".", Reply("Fourteen.", delay_s=0.4))
    for _ in range(3):
        assert said(await scene.ask(stream=True))[0] == "Fourteen."
    with pytest.raises(Retryable, match=r"the model 'large' is left alone for .* took 0.* s to begin"):
        await scene.ask(stream=True)


async def test_a_batch_does_not_mind_a_slow_model(scene: Scene) -> None:
    scene.breaker = SLOW
    scene.large.when(".", Reply("Fourteen.", delay_s=0.4))
    done = await scene.run(batch(*(item(n) for n in range(4))))
    assert {said(one)[2] for one in done} == {"primary"}
    assert await open_breakers(scene.redis) == []


async def test_a_batch_waits_for_the_model_it_asked_for_and_that_is_no_failure(scene: Scene) -> None:
    await scene.open()
    for _ in range(scene.tries + 2):
        with pytest.raises(Later, match="waits for the model 'large': it answered 503") as caught:
            await scene.run(batch(item(0), item(1)))
        assert 0 < caught.value.after <= 30
    scene.large.when(".", "Fourteen.")
    await scene.pause_is_over()
    with pytest.raises(Later):  # one makes the probe, the other waits
        await scene.run(batch(item(0), item(1)))
    done = await scene.run(batch(item(0), item(1)))
    assert [said(one) for one in done] == [("Fourteen.", "large", "primary")] * 2
    assert scene.large.calls() == 2, "what the probe brought is paid for and kept"


async def test_a_batchs_single_failures_come_again_and_then_go_down(scene: Scene) -> None:
    scene.breaker = Breaker(failures=100)
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    for _ in range(scene.tries - 1):
        with pytest.raises(Retryable, match="answered 503") as caught:
            await scene.run(batch(item(0)))
        assert not isinstance(caught.value, Later)
    (done,) = await scene.run(batch(item(0)))
    assert said(done) == ("Fourteen.", "spare", "backup")


@pytest.mark.parametrize(
    ("patience", "fields"),
    [
        (Patience(batch=0), {}),
        (Patience(batch=3600, margin=60), {"deadline": NOW + 30}),
    ],
)
async def test_a_batch_goes_down_where_its_patience_or_its_time_is_over(
    scene: Scene, patience: Patience, fields: dict[str, object]
) -> None:
    scene.patience = patience
    await scene.open()
    scene.spare.when(".", "Fourteen.")
    (done,) = await scene.run(batch(item(0), **fields))
    assert said(done) == ("Fourteen.", "spare", "backup")


async def test_a_batch_wakes_when_its_time_runs_out(scene: Scene) -> None:
    await scene.open()
    with pytest.raises(Later) as caught:
        await scene.run(batch(item(0, deadline=NOW + 65.0)))
    assert caught.value.after == pytest.approx(5.0)


async def test_people_may_be_made_to_wait_too(scene: Scene) -> None:
    scene.patience = Patience(interactive=3600)
    await scene.open()
    with pytest.raises(Later):
        await scene.ask()


async def test_readers_of_a_stream_are_told_to_forget_what_the_rung_above_had_begun(scene: Scene) -> None:
    scene.large.when(".", Reply("It must have", fault="half"))
    scene.spare.when(".", "Fourteen characters.")
    await scene.ask(stream=True)
    first = [delta for delta in scene.heard if delta.attempt == 1]
    second = [delta for delta in scene.heard if delta.attempt == 2]
    assert "".join(delta.text for delta in first).startswith("It ")
    assert "".join(delta.text for delta in second) == "Fourteen characters."
    assert [delta.index for delta in second] == list(range(len(second)))
    assert scene.heard[-1].finish_reason == "stop"


async def test_what_was_paid_for_on_any_rung_is_not_bought_again(scene: Scene) -> None:
    scene.large.when(".", DOWN)
    scene.spare.when(".", "Fourteen.")
    task = shard(item(0), id="acme/paid/0")
    (once,) = await scene.run(task)
    (again,) = await scene.run(task, scene.replica())
    assert (said(once), once.usage) == (said(again), again.usage)
    assert (scene.large.calls(), scene.spare.calls()) == (1, 1)


async def test_a_call_that_is_given_up_frees_the_probe(scene: Scene) -> None:
    scene.breaker = Breaker(slow_s=30, open_s=30)
    await scene.open()
    await scene.pause_is_over()
    scene.large.when(".", Reply(fault="hang"))
    asking = asyncio.create_task(scene.ask())
    await scene.large.until(lambda large: large.calls() == 1)
    asking.cancel()
    await asyncio.wait({asking})
    await scene.large.until(lambda large: large.aborted == 1)
    assert await scene.redis.hget(key("large"), "probe") is None
