"""What retrieve and judge remember, with the real Redis and a real index; the encoder is words in random directions."""

import asyncio
import dataclasses
import gc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType

import msgspec
from fake_encoder import FakeEncoder
from in_process import Core
from libraries import document, open_index
from msgspec.structs import replace
from redis.asyncio import Redis

from contracts.events import Forgotten
from contracts.item import Answer, Input, Item, Verdict
from contracts.job import Options, TokenDelta
from contracts.steps import AnyStep, Generate, Retrieve
from contracts.subjects import forget
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.handlers import Workshop, generate
from services.judge.domain.keeping import worth_keeping
from services.retrieve.adapters.erasure import Erasure
from services.retrieve.adapters.log import DocumentLog
from services.retrieve.adapters.lookup import Lookup
from services.retrieve.adapters.memory import Recent, RememberingFinder
from services.retrieve.adapters.near import Near
from services.retrieve.adapters.search import Search
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.policy import Mode
from services.retrieve.handlers import answer_or_retrieve
from shared.answers import MOST_BYTES, RedisAnswers
from shared.attempts import RedisAttempts
from shared.errors import Retryable
from shared.models import Catalogue, Model

QUESTION = "which barat is delon?"
STEP = Retrieve(cache="shape")


@dataclass
class Desk:
    """Retrieve and judge, as far as caches go."""

    search: Search
    answers: RedisAnswers
    now: float = 1_000_000.0
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: list[tuple[str, bytes]] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.lookup = Lookup(
            self.answers, Near(self.answers), self.search.remembering, self.search.questions, self,
            RedisAttempts(self.answers.redis), ttl_s=3600, threshold=0.9, note=self.note, clock=lambda: self.now,
        )  # fmt: skip

    def note(self, cache: str, result: str, times: int = 1) -> None:
        self.seen[cache, result] += times

    async def publish(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))

    async def ask(
        self, question: str = QUESTION, tenant: str = "acme", mode: Mode = "exact", step: Retrieve = STEP,
        given: Input | None = None, stream: bool = False,
    ) -> Item:  # fmt: skip
        """One question: through retrieve, a model that counts its calls, and judge."""
        item = Item(n=0, input=replace(given or Input(), question=question))
        steps: list[AnyStep] = [step, Generate(stream=stream)]
        task = Task("t", tenant, "j", "rag", [item], steps, "g", 0, options=Options())
        [found] = await answer_or_retrieve(task, step, mode, self.search.remembering, self.lookup)
        if not found.at_work:
            return found
        self.calls += 1
        text = f"answer {self.calls} from {', '.join(sorted(passage.text for passage in found.passages))}"
        answered = replace(found, answer=Answer(text), verdict=Verdict("grounding", True, 1.0))
        await self.answers.keep(tenant, worth_keeping([answered], self.now))
        return answered


def kind(item: Item) -> str:
    assert item.answer is not None
    return item.answer.cached.kind if item.answer.cached else "new"


async def test_the_same_question_gets_the_same_answer_with_its_age(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        first = await desk.ask()
        desk.now += 60
        second = await desk.ask(f"  {QUESTION.replace(' ', '  ')}", stream=True)
    assert (kind(first), kind(second), desk.calls) == ("new", "exact", 1)
    assert second.answer is not None
    assert second.answer.cached is not None
    assert second.answer.cached.age_s == 60
    assert replace(second.answer, cached=None) == first.answer
    assert (second.verdict, second.usage.calls) == (first.verdict, 0)
    text = second.answer.text
    assert desk.told == [
        ("tokens.acme.j.0", b'{"index":0,"text":"%s"}' % text.encode()),
        ("tokens.acme.j.0", b'{"index":1,"finish_reason":"stop"}'),
    ]


async def test_a_task_that_comes_again_is_a_new_attempt_for_readers_whoever_answers(
    tmp_path: Path, redis: "Redis"
) -> None:
    noop = Model(name="noop", engine="noop", default=True)
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        await desk.ask()
        for _ in range(2):
            assert kind(await desk.ask(stream=True)) == "exact"
        await search.indexer.put("acme", document("d", "barat two", revision="2"))
        found = await desk.ask(stream=True)
        assert kind(found) == "new"
    workshop = Workshop(
        Catalogue(models=(noop,)), {"noop": Noop(noop)}, MemoryLedger(), desk, attempts=RedisAttempts(redis)
    )
    await generate(Task("t", "acme", "j", "rag", [found], [], "g", 0), Generate("noop", stream=True), workshop)
    deltas = [msgspec.json.decode(payload, type=TokenDelta) for _, payload in desk.told]
    assert [(delta.attempt, delta.index) for delta in deltas] == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


class Uncounted:
    async def begin(self, task: str, n: int) -> int:
        raise Retryable("the attempts in Redis cannot be counted")


async def test_a_kept_answer_is_given_also_where_it_cannot_be_streamed(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        await desk.ask()
        desk.lookup = dataclasses.replace(desk.lookup, attempts=Uncounted())
        assert kind(await desk.ask(stream=True)) == "exact"
    assert desk.told == []


async def test_what_shapes_an_answer_parts_the_answers(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one", plan="x"))
        await desk.ask()
        others = [
            await desk.ask(QUESTION.upper()),
            await desk.ask(step=Retrieve(cache="another shape")),
            await desk.ask(given=Input(filters={"plan": "x"})),
            await desk.ask(given=Input(context="some context")),
            await desk.ask(given=Input(variables={"a": "b"})),
            await desk.ask(tenant="globex"),
        ]
        assert [kind(item) for item in others] == ["new"] * 6
        assert kind(await desk.ask(given=Input(id="my row", deadline_s=9))) == "exact"


async def test_a_changed_document_ends_an_answer_and_an_unrelated_one_does_not(tmp_path: Path, redis: "Redis") -> None:
    mine = Input(filters={"document": "mine"})
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("mine", "barat one"))
        assert kind(await desk.ask(given=mine)) == "new"
        await search.indexer.put("acme", document("other", "barat delon"))
        assert kind(await desk.ask(given=mine)) == "exact"  # the same passages were found
        assert desk.seen["answer", "checked"] == 1
        assert kind(await desk.ask(given=mine)) == "exact"  # and from then on nobody looks again
        assert desk.seen["answer", "exact"] == 1
        await search.indexer.put("acme", document("mine", "barat two", revision="2"))
        changed = await desk.ask(given=mine)
        assert changed.answer is not None
        assert (kind(changed), "two" in changed.answer.text, "one" in changed.answer.text) == ("new", True, False)
        assert desk.seen["answer", "changed"] == 1
        await search.indexer.remove("acme", "mine")
        assert kind(await desk.ask(given=mine)) == "new"


async def test_an_answer_does_not_stand_where_its_words_have_moved(tmp_path: Path, redis: "Redis") -> None:
    """It says on which page and under what heading they are."""
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        for revision, (page, section) in enumerate(((1, ""), (2, ""), (2, "Leave"))):
            before = document("d", "barat one", revision=str(revision))
            chunk = replace(before.chunks[0], page=page, section=section)
            await search.indexer.put("acme", replace(before, chunks=[chunk]))
            assert kind(await desk.ask()) == "new"
            assert kind(await desk.ask()) == "exact"


async def test_an_answer_is_not_kept_where_the_library_has_changed_since_it_was_looked_at(
    tmp_path: Path, redis: "Redis"
) -> None:
    """Changed back later, it would be given for passages that it was not made from."""
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        task = Task("t", "acme", "j", "rag", [Item(n=0, input=Input(QUESTION))], [STEP, Generate()], "g", 0)
        looks = await desk.lookup.look(task, STEP, "exact")
        items = [one.item for one in looks]
        [kept] = await desk.lookup.settle(task, looks, items)
        assert kept.keep is not None
        await search.indexer.put("acme", document("d", "barat two", revision="2"))
        [not_kept] = await desk.lookup.settle(task, looks, items)
        assert not_kept.keep is None


async def test_a_new_document_that_belongs_to_the_evidence_ends_an_answer(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        await desk.ask()
        await search.indexer.put("acme", document("e", "barat delon two"))
        later = await desk.ask()
        assert later.answer is not None
        assert (kind(later), "delon two" in later.answer.text) == ("new", True)


async def test_an_answer_is_not_older_than_its_time(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        await desk.ask()
        desk.now += 3599
        assert kind(await desk.ask()) == "exact"
        desk.now += 1
        assert kind(await desk.ask()) == "new"


async def test_a_like_question_gets_the_answer_unless_something_tells_them_apart(
    tmp_path: Path, redis: "Redis"
) -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        await search.indexer.put("acme", document("d", "barat one"))
        await desk.ask("which barat is delon in 2024", mode="semantic")
        near = await desk.ask("in 2024 which barat is delon", mode="semantic")
        assert near.answer is not None
        assert near.answer.cached is not None
        assert (kind(near), near.answer.cached.question) == ("semantic", "which barat is delon in 2024")
        assert kind(await desk.ask("in 2024 which barat is delon", mode="exact")) == "new"
        assert kind(await desk.ask("which barat is delon in 2025", mode="semantic")) == "new"
        assert kind(await desk.ask("which barat is not delon in 2024", mode="semantic")) == "new"
        assert desk.seen["answer", "guarded"] >= 1
        assert kind(await desk.ask("in 2024 is delon which barat", tenant="globex", mode="semantic")) == "new"
        await search.indexer.put("acme", document("d", "barat two", revision="2"))
        assert kind(await desk.ask("is delon in 2024 which barat", mode="semantic")) == "new"
        await redis.delete(*await redis.keys("answers:{acme}:*"))
        assert kind(await desk.ask("which barat is delon in 2024", mode="semantic")) == "new"


async def test_what_a_tenant_takes_is_bounded_and_can_be_erased(tmp_path: Path, redis: "Redis") -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis, most=5))
        await search.indexer.put("acme", document("d", "barat one"))
        for n in range(8):
            await desk.ask(f"question {n}", mode="semantic")
        assert await redis.hlen("answers:{acme}:kept") == 5
        assert await redis.hlen("answers:{acme}:questions") == 5
        assert await redis.zcard("answers:{acme}:order") == 5
        assert [kind(await desk.ask(f"question {n}")) for n in (7, 3)] == ["exact", "exact"]
        assert kind(await desk.ask("question 0")) == "new"
        keys = {str(key, "ascii") for key in await redis.keys("*") if isinstance(key, bytes)}
        assert keys == {f"answers:{{acme}}:{name}" for name in ("kept", "questions", "order")}
        assert all([await redis.ttl(key) > 0 for key in keys])
        await desk.ask("barat " * MOST_BYTES)
        assert await redis.hlen("answers:{acme}:kept") == 5


async def test_nothing_of_an_erased_tenant_stays_in_memory(tmp_path: Path, redis: "Redis", core: Core) -> None:
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(redis))
        remembered = (desk.lookup.near, search.remembering, search.questions)
        for tenant in ("acme", "other"):
            await search.indexer.put(tenant, document("d", f"barat of {tenant}"))
            await desk.ask(f"which barat has {tenant}?", tenant, "semantic")
            await desk.ask(f"which barat is of {tenant}?", tenant, "semantic")
        assert held(remembered, "acme") > 2
        before = held(remembered, "other")

        await redis.delete(*[key async for key in redis.scan_iter("answers:{acme}:*")])
        await Erasure(core.bus, DocumentLog(core.bus), search, desk.lookup.near, "retrieve-1").listen()
        answered = await core.bus.nc.request(forget("acme"), timeout=20)
        assert msgspec.json.decode(answered.data, type=Forgotten) == Forgotten("retrieve-1", removed=1, left=0)
        assert held(remembered, "acme") == 0
        assert held(remembered, "other") == before


_NOT_MEMORY = (type, ModuleType, FunctionType, FakeEncoder, RedisAnswers, Statistics)


def held(roots: object, word: str) -> int:
    """How many texts with this word can be reached from here, through whatever holds them."""
    seen, waiting, found = set[int](), [roots], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(
            one, type | ModuleType | FunctionType | FakeEncoder | RedisAnswers | Statistics
        ):
            continue
        seen.add(id(one))
        found += isinstance(one, str) and word in one
        waiting += gc.get_referents(one)
    return found


async def test_without_redis_nothing_is_found_and_nothing_fails(tmp_path: Path) -> None:
    nobody: Redis = Redis.from_url("redis://127.0.0.1:1/0")
    async with open_index(tmp_path) as search:
        desk = Desk(search, RedisAnswers(nobody))
        await search.indexer.put("acme", document("d", "barat one"))
        assert [kind(await desk.ask(mode="semantic")) for _ in range(2)] == ["new", "new"]


async def test_passages_and_vectors_of_a_question_are_remembered_by_tenant_until_a_document_changes(
    tmp_path: Path,
) -> None:
    encoder = CountingEncoder()
    async with open_index(tmp_path, encoder) as search:
        find = search.remembering.find
        for tenant in ("acme", "globex"):
            await search.indexer.put(tenant, document("d", f"barat of {tenant}", tenant=tenant))
        first = await find("acme", QUESTION, {}, 30)
        assert await find("acme", QUESTION, {}, 30) == first
        assert encoder.questions == [QUESTION]
        assert [passage.text for passage in await find("globex", QUESTION, {}, 30)] == ["barat of globex"]
        assert encoder.questions == [QUESTION] * 2
        await search.indexer.put("acme", document("d", "barat anew", revision="2"))
        assert [passage.text for passage in await find("acme", QUESTION, {}, 30)] == ["barat anew"]
        assert encoder.questions == [QUESTION] * 2  # its vectors are those of a while ago
        assert await find("acme", QUESTION, {"document": "nope"}, 30) == []
        assert len(await find("acme", QUESTION, {}, 30)) == 1
        await search.finder.find("acme", QUESTION, {}, 30)
        assert encoder.questions == [QUESTION] * 3  # who wants nothing kept gets nothing kept


async def test_what_is_remembered_ends_after_its_time() -> None:
    now = 100.0
    recent: Recent[str] = Recent(100, len, ttl_s=10, clock=lambda: now)
    recent.put("acme", b"k", "passages")
    now = 109.0
    assert recent.get("acme", b"k") == "passages"
    now = 110.5
    assert recent.get("acme", b"k") is None
    assert recent.size_bytes == 0


async def test_passages_are_looked_for_again_after_their_time(tmp_path: Path) -> None:
    looked: Counter[tuple[str, str]] = Counter()

    def note(cache: str, result: str, times: int = 1) -> None:
        looked[cache, result] += times

    async with open_index(tmp_path) as search:
        await search.indexer.put("acme", document("d", "barat one"))
        short = RememberingFinder(search.finder, search.statistics, note, ttl_s=0.2)
        for _ in range(2):
            await short.find("acme", QUESTION, {}, 30)
        await asyncio.sleep(0.3)
        await short.find("acme", QUESTION, {}, 30)
    assert (looked["retrieval", "hit"], looked["retrieval", "miss"]) == (1, 2)


async def test_each_cache_counts_what_it_had_and_what_it_had_not(tmp_path: Path) -> None:
    seen: Counter[tuple[str, str]] = Counter()

    def note(cache: str, result: str, times: int = 1) -> None:
        seen[cache, result] += times

    async with open_index(tmp_path, note=note) as search:
        await search.indexer.put("acme", document("d", "barat one", "delon two"))
        await search.indexer.put("acme", document("d", "barat one", "fimik three", revision="2"))
        for question, filters in ((QUESTION, {}), (QUESTION, {}), (QUESTION, {"document": "d"}), ("another?", {})):
            await search.remembering.find("acme", question, filters, 30)
    assert +seen == Counter(
        {
            ("passage", "hit"): 1, ("passage", "miss"): 3,
            ("retrieval", "hit"): 1, ("retrieval", "miss"): 3,
            ("embedding", "hit"): 1, ("embedding", "miss"): 2,
        }
    )  # fmt: skip


async def test_passages_that_have_not_changed_are_not_encoded_again(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    async with open_index(tmp_path, encoder) as search:
        await search.indexer.put("acme", document("d", "barat one", "delon two", "fimik three"))
        before = await search.finder.find("acme", "delon two", {}, 30)
        encoder.encoded.clear()
        await search.indexer.put("acme", document("d", "new first", "barat one", "delon two", revision="2"))
        assert encoder.encoded == ["new first"]
        after = await search.finder.find("acme", "delon two", {}, 30)
        assert after[0].text == before[0].text == "delon two"
        assert abs(after[0].evidence.cosine - before[0].evidence.cosine) < 1e-6
        assert {passage.text for passage in after} == {"new first", "barat one", "delon two"}
        await search.indexer.put("globex", document("d", "barat one", tenant="globex"))
        assert encoder.encoded[1:] == ["barat one"]  # what another tenant has does not help


class CountingEncoder(FakeEncoder):
    """Notes which questions it has encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[str] = []

    def encode_query(self, text: str):  # type: ignore[no-untyped-def]  # noqa: ANN201  as its base has it
        self.questions.append(text)
        return super().encode_query(text)
