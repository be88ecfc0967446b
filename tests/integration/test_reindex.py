"""Engines are filled beside those that serve: nothing is missing at the end, whatever happens meanwhile. On a real NATS
server."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from engines import asked, axis, delete_all, opensearch_server
from fake_encoder import FakeEncoder
from in_process import Core
from libraries import ask, document, library
from msgspec.structs import replace
from nats.aio.msg import Msg
from servers import free_port

from client import reindex as command
from client.errors import StackError, Unreachable, UsageError
from client.reindex import ReindexFailed
from contracts.documents import Document
from contracts.reindex import Engines, Reindexing
from services.ingest.adapters.library import BusLibrary
from services.retrieve.adapters import reindex
from services.retrieve.adapters.chosen import FILE, Chosen, choose, chosen, sweep, with_engines
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.engines import engines, statistics_name
from services.retrieve.adapters.log import DocumentLog
from services.retrieve.adapters.orders import Orders
from services.retrieve.adapters.reindex import Reindexer
from services.retrieve.adapters.replay import replay
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain.ports import Entered, Entry, Level, Scope
from shared.bus import Bus
from shared.errors import Rejected, Retryable
from shared.settings import SettingsError

EDGE = Engines("edge", "edge")
QDRANT = Engines("qdrant", "qdrant")
MIXED = Engines("edge", "opensearch")
QUESTIONS = ["barat delon fimik", "Title of d2 lalon", "kusov metup"]

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


@pytest.fixture(scope="session")
def opensearch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opensearch_server(tmp_path_factory.mktemp("opensearch")) as url:
        yield url


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex, "GRACE_S", 0.0)


class Waits(DocumentLog):
    """A log that stops before its third entry, the first time that it is read from the start, until it may go on."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.reached, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def since(self, sequence: int) -> AsyncIterator[Entered]:
        read = 0
        async for entry in super().since(sequence):
            if read == 2 and not sequence:
                self.reached.set()
                await self.may_go_on.wait()
            read += 1
            yield entry


@dataclass
class Running:
    """Retrieve as far as it fills engines."""

    search: Search
    reindexer: Reindexer
    encoder: FakeEncoder
    log: DocumentLog

    async def catch_up(self) -> int:
        return await replay(self.log, self.search.indexer, self.search.statistics)

    async def ended(self) -> Reindexing:
        assert self.reindexer._running is not None
        await asyncio.wait({self.reindexer._running})
        return self.reindexer.state

    async def fill(self, to: Engines) -> Reindexing:
        self.reindexer.start(to)
        return await self.ended()

    async def held(self) -> list[set[int]]:
        """What the engines find for one word, and all that they have, of both levels."""
        live, query = self.search.live, asked("gotup")
        return [
            set(found)
            for level in Level
            for found in (
                await live.matching("acme", query, Scope(), level, 1000),
                await live.nearest("acme", axis(1), Scope(), level, 1000),
            )
        ]

    async def answers(self) -> list[list[tuple[str, float]]]:
        return [
            [(p.chunk, round(p.score, 4)) for p in await ask(self.search, text, tenant=tenant)]
            for text in QUESTIONS
            for tenant in ("acme", "globex")
        ]


@asynccontextmanager
async def running(
    core: Core, folder: Path, settings: RetrieveSettings, log: DocumentLog | None = None, replica: str = "r1"
) -> AsyncIterator[Running]:
    choice = chosen(settings, folder)
    used, encoder, log = with_engines(settings, choice.serving), FakeEncoder(), log or DocumentLog(core.bus)
    statistics = Statistics(folder / statistics_name(used))
    async with opened(encoder, statistics, *engines(used, folder, edge=choice.edge)) as search:
        reindexer = Reindexer(settings, folder, search, log, replica)
        yield Running(search, reindexer, encoder, log)
        await reindexer.close()


async def publish(bus: Bus, *some: Document) -> None:
    for one in some:
        await BusLibrary(bus).publish(one)


async def library_in_the_log(bus: Bus) -> None:
    await publish(bus, *library(3, [4, 1, 30, 2]), *library(4, [3, 5], tenant="globex"))


def settings(**others: object) -> RetrieveSettings:
    return RetrieveSettings(qdrant_url=":memory:").model_copy(update=others)


def folders_of_edge(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("edge*"))


@pytest.mark.parametrize("to", [EDGE, QDRANT, Engines("edge", "qdrant"), Engines("qdrant", "edge")])
async def test_other_engines_answer_the_same_and_nothing_is_encoded_again(
    core: Core, tmp_path: Path, to: Engines
) -> None:
    await library_in_the_log(core.bus)
    async with running(core, tmp_path, settings()) as retrieve:
        await retrieve.catch_up()
        before = await retrieve.answers()
        retrieve.encoder.encoded.clear()
        done = await retrieve.fill(to)
        assert (done.state, done.serving, done.documents, done.of, done.passages) == ("done", to, 6, 6, 45)
        assert await retrieve.answers() == before
        assert retrieve.encoder.encoded == []
        await publish(core.bus, document("new", "barat barat barat"))
        assert await retrieve.catch_up() == 1
        assert (await ask(retrieve.search, "barat"))[0].document == "new"
    assert "edge" not in folders_of_edge(tmp_path)
    assert chosen(settings(), tmp_path).serving == to


async def test_what_comes_changes_and_goes_meanwhile_is_in_both(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    log = Waits(core.bus)
    async with running(core, tmp_path, settings()) as before:
        await before.catch_up()
    async with running(core, tmp_path, settings(), log) as retrieve:
        retrieve.reindexer.start(QDRANT)
        await log.reached.wait()
        first, last = document("d0", "gotup alone", revision="2"), document("d3", "gotup too", revision="2")
        fresh, unseen = document("fresh", "gotup as well"), document("unseen", "gotup in the log alone")
        for changed in (first, last, fresh, replace(document("d1"), revision="")):  # read already, to come, new, gone
            await publish(core.bus, changed)
            await retrieve.search.indexer.put("acme", changed)
        assert {p.document for p in await ask(retrieve.search, "gotup")} >= {"d0", "d3", "fresh"}  # old ones serve
        assert retrieve.reindexer.state.serving == EDGE
        await publish(core.bus, unseen)
        log.may_go_on.set()
        assert (await retrieve.ended()).state == "done"
        given, held = await retrieve.answers(), await retrieve.held()
        words = await ask(retrieve.search, "gotup alone too as well in the log", top=4)
        assert {p.document for p in words} == {"d0", "d3", "fresh", "unseen"}
    async with running(core, tmp_path / "anew", settings()) as anew:
        await anew.catch_up()
        assert (given, held) == (await anew.answers(), await anew.held())


async def test_questions_go_on_through_the_switch(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    async with running(core, tmp_path, settings()) as retrieve:
        await retrieve.catch_up()
        expected = await retrieve.answers()
        for to in (EDGE, QDRANT, EDGE):
            retrieve.reindexer.start(to)
            while retrieve.reindexer.state.state != "done":
                assert await retrieve.answers() == expected
        assert retrieve.reindexer.state.serving == EDGE


@pytest.mark.opensearch
async def test_the_choice_outlives_a_restart_until_the_settings_change(
    core: Core, tmp_path: Path, opensearch_url: str
) -> None:
    name = f"test-{uuid4().hex[:12]}"
    ours = settings(opensearch_url=opensearch_url, index_name=name)
    await library_in_the_log(core.bus)
    try:
        async with running(core, tmp_path, ours) as retrieve:
            await retrieve.catch_up()
            before = await retrieve.answers()
            for _ in range(2):  # to OpenSearch, then OpenSearch anew
                assert (await retrieve.fill(MIXED)).state == "done"
                assert await retrieve.answers() == before
        async with running(core, tmp_path, ours) as retrieve:
            assert retrieve.reindexer.state.serving == MIXED
            assert await retrieve.answers() == before
            assert await retrieve.catch_up() == 0
        async with running(core, tmp_path, ours.model_copy(update={"words": "qdrant"})) as retrieve:
            assert retrieve.reindexer.state.serving == Engines("edge", "qdrant")
            await retrieve.catch_up()
            assert await retrieve.answers() == before
    finally:
        delete_all(opensearch_url, name)


def away(**others: object) -> RetrieveSettings:
    return settings(opensearch_url=f"http://user:hush@127.0.0.1:{free_port()}", **others)


async def test_a_server_that_is_away_is_one_line_and_everything_stays(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    async with running(core, tmp_path, away()) as retrieve:
        await retrieve.catch_up()
        before = await retrieve.answers()
        failed = await retrieve.fill(MIXED)
        assert failed.state == "failed"
        assert "OpenSearch at http://127.0.0.1:" in failed.reason
        assert "PENSTOCK_RETRIEVE_OPENSEARCH_URL" in failed.reason
        assert "hush" not in failed.reason
        assert await retrieve.answers() == before
        assert folders_of_edge(tmp_path) == ["edge"]
        assert (await retrieve.fill(EDGE)).state == "done"  # and the next attempt goes well


async def test_a_fault_on_the_way_ends_the_filling_and_no_document_suffers(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library_in_the_log(core.bus)
    log = Waits(core.bus)
    async with running(core, tmp_path, settings()) as before:
        await before.catch_up()
    async with running(core, tmp_path, settings(), log) as retrieve:
        retrieve.reindexer.start(EDGE)
        await log.reached.wait()
        whole = Edge.fill

        async def fails_beside(engine: Edge, tenant: str, entries: Sequence[Entry]) -> None:
            if engine._folder.name != "edge":
                raise Retryable("the disk is full")
            await whole(engine, tenant, entries)

        monkeypatch.setattr(Edge, "fill", fails_beside)
        assert await retrieve.search.indexer.put("acme", document("late", "gotup gotup"))  # the old engine takes it
        log.may_go_on.set()
        failed = await retrieve.ended()
        assert (failed.state, failed.reason, failed.serving) == ("failed", "the disk is full", EDGE)
        assert (await ask(retrieve.search, "gotup"))[0].document == "late"
        assert folders_of_edge(tmp_path) == ["edge"]


async def test_an_error_that_nobody_foresaw_ends_the_filling_too(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    await library_in_the_log(core.bus)
    async with running(core, tmp_path, settings()) as retrieve:
        await retrieve.catch_up()
        before = await retrieve.answers()
        monkeypatch.setattr(retrieve.search.indexer, "copy", breaks)
        failed = await retrieve.fill(EDGE)
        assert (failed.state, failed.reason) == ("failed", "it broke off; see the log of retrieve")
        assert "a bug" in caplog.text
        assert await retrieve.answers() == before


async def test_one_at_a_time_and_only_engines_that_exist(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    log = Waits(core.bus)
    async with running(core, tmp_path, settings(), log) as retrieve:
        with pytest.raises(Rejected, match="no such engines: vectors in 'opensearch', words in 'edge'"):
            retrieve.reindexer.start(Engines("opensearch", "edge"))
        retrieve.reindexer.start(EDGE)
        await log.reached.wait()
        assert retrieve.reindexer.start(EDGE).state == "filling"  # joins it
        with pytest.raises(Rejected, match="other engines are being filled"):
            retrieve.reindexer.start(QDRANT)
        log.may_go_on.set()
        assert (await retrieve.ended()).state == "done"


async def test_a_process_that_ends_meanwhile_leaves_what_the_next_one_clears_away(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    log = Waits(core.bus)
    async with running(core, tmp_path, settings(), log) as retrieve:
        retrieve.reindexer.start(EDGE)
        await log.reached.wait()
    (tmp_path / "edge-7").mkdir()
    choice = chosen(settings(), tmp_path)
    assert choice == Chosen(EDGE, EDGE)
    sweep(tmp_path, choice)
    assert folders_of_edge(tmp_path) == ["edge"]


def test_the_younger_word_counts(tmp_path: Path) -> None:
    choose(Chosen(EDGE, MIXED, "edge-2"), tmp_path)
    assert chosen(settings(), tmp_path) == Chosen(EDGE, MIXED, "edge-2")
    changed = settings(vectors="qdrant", words="qdrant")
    assert chosen(changed, tmp_path) == Chosen(QDRANT, QDRANT, "edge-2")
    (tmp_path / FILE).write_text('{"serving": 1')
    with pytest.raises(SettingsError, match=r"serving.json: .*; delete it"):
        chosen(settings(), tmp_path)


async def test_the_command_follows_and_says_what_went_wrong(core: Core, tmp_path: Path) -> None:
    await library_in_the_log(core.bus)
    with pytest.raises(Unreachable, match="no retrieve answers; see: penstock status"):
        await command.run(core.bus.nc, "", lambda _: None)
    async with (
        running(core, tmp_path / "1", away()) as first,
        running(core, tmp_path / "2", away(), replica="r2") as second,
    ):
        await first.catch_up()
        listening = [Orders(core.bus, first.reindexer)]
        await listening[0].listen()
        seen: list[Reindexing] = []
        done = await command.run(core.bus.nc, "words=qdrant", seen.append)
        assert done.serving == Engines("edge", "qdrant")
        assert [state.state for state in seen][-1] == "done"
        with pytest.raises(ReindexFailed, match="OPENSEARCH_URL; the engines of before go on serving"):
            await command.run(core.bus.nc, "words=opensearch", seen.append)
        await Orders(core.bus, second.reindexer).listen()
        with pytest.raises(UsageError, match="2 replicas of retrieve run"):
            await command.run(core.bus.nc, "vectors=qdrant", seen.append)
        answer = await core.bus.nc.request("reindex.r1", b"no json", timeout=5)
        assert b"not a Reindex" in answer.data


async def test_a_retrieve_that_ends_meanwhile_is_said(core: Core) -> None:
    async def says_filling(message: Msg) -> None:
        await message.respond(b'{"replica": "r9", "serving": {"vectors": "edge", "words": "edge"}, "state": "filling"}')

    subscriptions = [await core.bus.nc.subscribe(f"reindex.{who}", cb=says_filling) for who in ("all", "r9")]

    def leaves(_: Reindexing) -> None:
        leaving.extend(asyncio.ensure_future(subscription.unsubscribe()) for subscription in subscriptions)

    leaving: list[asyncio.Future[None]] = []
    with pytest.raises(StackError, match="retrieve has ended while it filled the engines"):
        await command.run(core.bus.nc, "", leaves)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MIXED),
        ("edge", EDGE),
        ("qdrant", QDRANT),
        ("words=qdrant", Engines("edge", "qdrant")),
        ("vectors=qdrant, words=opensearch", Engines("qdrant", "opensearch")),
    ],
)
def test_engines_are_named_in_short(text: str, expected: Engines) -> None:
    assert command.read_engines(text, MIXED) == expected


@pytest.mark.parametrize("text", ["opensearch", "vectors=opensearch", "words", "words=", "pages=edge", "edge,qdrant"])
def test_engines_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--to .*expected edge or qdrant, or vectors="):
        command.read_engines(text, MIXED)
