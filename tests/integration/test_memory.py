"""Sessions: the same behaviour in memory and in a real Redis, and the steps on top of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from servers import free_port, start_redis

from contracts.item import Answer, Failure, Input, Item, Message, Usage
from contracts.job import Options
from contracts.steps import Recall
from contracts.task import Task
from services.memory.adapters.sessions import MemorySessions, RedisSessions
from services.memory.domain import Session, Turn
from services.memory.handlers import Sessions, recall, remember
from shared.errors import Retryable
from shared.results import item_result

pytestmark = pytest.mark.servers

CHAT = Session("acme", "chat-1")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    client: Redis = Redis.from_url(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture(params=["memory", "redis"])
def sessions(request: pytest.FixtureRequest, redis: "Redis") -> Sessions:
    return MemorySessions(kept=20) if request.param == "memory" else RedisSessions(redis, kept=20, ttl_s=60)


def turn(n: int) -> Turn:
    return Turn(f"question {n}", f"answer {n}")


def task(*items: Item, id: str = "acme/j1/0", session: str = "chat-1", tenant: str = "acme") -> Task:
    return Task(
        id=id,
        tenant=tenant,
        job="j1",
        pattern="rag",
        items=list(items),
        steps=[],
        group="acme/j1",
        index=0,
        options=Options(session=session),
    )


def answered(question: str, answer: Answer, n: int = 0) -> Item:
    return Item(n=n, input=Input(question=question), answer=answer)


async def test_turns_come_back_in_their_order(sessions: Sessions) -> None:
    await sessions.append(CHAT, [("a", turn(1)), ("b", turn(2))])
    await sessions.append(CHAT, [("c", turn(3))])

    assert await sessions.last(CHAT, 20) == [turn(1), turn(2), turn(3)]
    assert await sessions.last(CHAT, 2) == [turn(2), turn(3)]
    assert await sessions.last(CHAT, 0) == []


async def test_an_unknown_session_is_empty(sessions: Sessions) -> None:
    assert await sessions.last(Session("acme", "new"), 20) == []


async def test_only_the_last_turns_are_kept(sessions: Sessions) -> None:
    for n in range(30):
        await sessions.append(CHAT, [(f"t{n}", turn(n))])

    assert await sessions.last(CHAT, 1000) == [turn(n) for n in range(10, 30)]


async def test_a_turn_that_comes_twice_is_remembered_once(sessions: Sessions) -> None:
    assert await sessions.append(CHAT, [("a", turn(1))]) == 1
    assert await sessions.append(CHAT, [("a", Turn("question 1", "another sample"))]) == 0

    assert await sessions.last(CHAT, 20) == [turn(1)]


async def test_a_redelivery_that_comes_after_its_turn_fell_out_changes_nothing(sessions: Sessions) -> None:
    for n in range(30):
        await sessions.append(CHAT, [(f"t{n}", turn(n))])

    assert await sessions.append(CHAT, [("t0", turn(0))]) == 0
    assert (await sessions.last(CHAT, 20))[-1] == turn(29)


async def test_tenants_with_the_same_session_name_never_meet(sessions: Sessions) -> None:
    await sessions.append(Session("acme", "chat"), [("a", turn(1))])
    await sessions.append(Session("other", "chat"), [("a", turn(2))])

    assert await sessions.last(Session("acme", "chat"), 20) == [turn(1)]
    assert await sessions.last(Session("other", "chat"), 20) == [turn(2)]


async def test_two_at_the_same_time_lose_nothing(sessions: Sessions) -> None:
    await asyncio.gather(*(sessions.append(CHAT, [(f"t{n % 10}", turn(n % 10))]) for n in range(20)))

    assert sorted((await sessions.last(CHAT, 20)), key=lambda t: t.question) == [turn(n) for n in range(10)]


async def test_a_session_is_forgotten_some_time_after_its_last_turn(redis: "Redis") -> None:
    sessions = RedisSessions(redis, kept=20, ttl_s=100)
    await sessions.append(CHAT, [("a", turn(1))])
    keys = await redis.keys("memory:*")
    for key in keys:
        await redis.expire(key, 5)

    await sessions.append(CHAT, [("b", turn(2))])

    assert len(keys) == 2, "turns that used nothing have no sums"
    assert all([await redis.ttl(key) > 90 for key in keys])


async def test_what_is_kept_in_redis_does_not_grow(redis: "Redis") -> None:
    sessions = RedisSessions(redis, kept=2, ttl_s=60)
    for n in range(100):
        await sessions.append(CHAT, [(f"t{n}", turn(n))])

    lengths = [await redis.hlen("memory:{acme/chat-1}:turns"), await redis.llen("memory:{acme/chat-1}:order")]

    assert lengths == [20, 20]
    texts = [value for value in await redis.hvals("memory:{acme/chat-1}:turns") if value]
    assert len(texts) == 2


async def test_redis_that_is_down_is_worth_another_try() -> None:
    client: Redis = Redis.from_url(f"redis://127.0.0.1:{free_port()}/0")
    sessions = RedisSessions(client)

    with pytest.raises(Retryable, match="Redis"):
        await sessions.last(CHAT, 20)
    with pytest.raises(Retryable, match="Redis"):
        await sessions.append(CHAT, [("a", turn(1))])
    await client.aclose()


async def test_the_next_question_finds_the_one_before(sessions: Sessions) -> None:
    await remember(task(answered("Is physiotherapy covered?", Answer("Up to 30 visits."))), sessions)

    (item,) = await recall(task(Item(n=0), id="acme/j2/0"), Recall(), sessions)

    assert item.history == [Message("user", "Is physiotherapy covered?"), Message("assistant", "Up to 30 visits.")]


async def test_every_item_of_a_shard_is_remembered_once_however_often_it_comes(sessions: Sessions) -> None:
    shard = task(answered("First?", Answer("One."), 0), answered("Second?", Answer("Two."), 1))

    assert await remember(shard, sessions) == shard.items
    await remember(shard, sessions)

    assert await sessions.last(CHAT, 20) == [Turn("First?", "One."), Turn("Second?", "Two.")]


async def test_a_session_knows_what_its_turns_have_used(sessions: Sessions) -> None:
    used = Usage(prompt_tokens=900, cached_tokens=600, completion_tokens=20, calls=1, cost_usd=0.002)
    for n in range(25):
        shard = task(replace(answered(f"{n}?", Answer("Yes.")), usage=used), id=f"acme/j{n}/0")
        (item,) = await remember(shard, sessions)
        await remember(shard, sessions)
    assert item.session is not None
    assert (item.session.calls, item.session.prompt_tokens, item.session.cached_tokens) == (25, 22_500, 15_000)
    assert item.session.cost_usd == pytest.approx(0.05)
    assert item_result(item).session == item.session
    assert await sessions.used(Session("other", "chat-1")) == Usage()


async def test_of_a_refusal_only_the_question_is_remembered(sessions: Sessions) -> None:
    await remember(task(answered("And PPO-900?", Answer("The documents do not say.", mode="refused"))), sessions)

    (item,) = await recall(task(Item(n=0), id="acme/j2/0"), Recall(), sessions)

    assert item.history == [Message("user", "And PPO-900?")]


async def test_failed_and_unanswered_items_leave_no_turn(sessions: Sessions) -> None:
    failed = Item(n=0, input=Input(question="A?"), answer=Answer("x"), failure=Failure("ungrounded", "…", "judge"))

    await remember(task(failed, Item(n=1, input=Input(question="B?")), Item(n=2, answer=Answer("y"))), sessions)

    assert await sessions.last(CHAT, 20) == []


async def test_recall_brings_no_more_turns_than_were_asked_for(sessions: Sessions) -> None:
    await sessions.append(CHAT, [(str(n), turn(n)) for n in range(5)])

    (item,) = await recall(task(Item(n=0)), Recall(turns=2), sessions)

    assert [message.content for message in item.history] == ["question 3", "answer 3", "question 4", "answer 4"]


@pytest.mark.parametrize("name", ["a b", "a:b", "../x", "ä", "x" * 65, "a*", "a\n"])
async def test_a_session_name_that_cannot_be_is_said_to_be_so(name: str, sessions: Sessions) -> None:
    items = [Item(n=0), Item(n=1)]

    for done in (
        await recall(task(*items, session=name), Recall(), sessions),
        await remember(task(*items, session=name), sessions),
    ):
        assert [item.n for item in done] == [0, 1]
        for item in done:
            assert item.failure is not None
            assert (item.failure.code, item.failure.service) == ("malformed", "memory")
            assert "options.session: expected 1 to 64 letters" in item.failure.reason


async def test_without_a_session_everything_passes_through(sessions: Sessions) -> None:
    lonely = task(answered("A?", Answer("B.")), session="")

    assert await recall(lonely, Recall(), sessions) == lonely.items
    assert await remember(lonely, sessions) == lonely.items
