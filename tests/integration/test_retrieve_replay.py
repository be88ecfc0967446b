"""Replay: the index becomes what the log of documents says, from wherever it was. On a real NATS server."""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from fake_encoder import FakeEncoder
from in_process import Core
from libraries import ask, document, open_index
from msgspec.structs import replace

from contracts.documents import Document
from contracts.subjects import DOCUMENTS, documents
from services.ingest.adapters.library import BusLibrary
from services.retrieve.adapters import indexing
from services.retrieve.adapters import replay as replay_module
from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.log import DocumentLog
from services.retrieve.adapters.replay import replay
from services.retrieve.adapters.search import Search, opened
from services.retrieve.adapters.statistics import Statistics
from services.retrieve.domain.ports import Entry
from shared.bus import CLAIM_BYTES, Bus
from shared.encoder import PassageVectors
from shared.errors import Poison

ONE, TWO, THREE = (document(name, f"{name} passage", "second passage") for name in ("one", "two", "three"))


async def publish(bus: Bus, *some: Document) -> None:
    for one in some:
        await BusLibrary(bus).publish(one)


async def apply(bus: Bus, search: Search) -> int:
    return await replay(DocumentLog(bus), search.indexer, search.statistics)


def held(search: Search) -> set[tuple[str, str]]:
    return search.statistics.inventory()


async def test_what_is_missing_is_indexed_and_nothing_twice(core: Core, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    await publish(core.bus, ONE, replace(TWO, tenant="globex"))
    async with open_index(tmp_path, encoder) as search:
        assert await apply(core.bus, search) == 2
        assert await apply(core.bus, search) == 0
        assert held(search) == {("acme", "one"), ("globex", "two")}
    await publish(core.bus, THREE, replace(ONE, revision="2", chunks=ONE.chunks[:1]))
    encoder.encoded.clear()
    async with open_index(tmp_path, encoder) as search:
        assert await apply(core.bus, search) == 2
        assert encoder.encoded == ["three passage", "second passage"]  # the other one has not changed
        assert {p.chunk for p in await ask(search, "passage")} == {"one#0", "three#0", "three#1"}


async def test_a_removal_in_the_log_removes(core: Core, tmp_path: Path) -> None:
    await publish(core.bus, ONE, TWO)
    async with open_index(tmp_path) as search:
        await apply(core.bus, search)
        await publish(core.bus, replace(ONE, revision="", chunks=[]))
        assert await apply(core.bus, search) == 1
        assert {p.document for p in await ask(search, "passage")} == {"two"}


async def test_an_index_that_was_deleted_is_built_anew(core: Core, tmp_path: Path) -> None:
    await publish(core.bus, ONE, TWO)
    async with open_index(tmp_path) as search:
        await apply(core.bus, search)
        before = await ask(search, "one passage")
    for lost in ("statistics.sqlite", "edge/edge_config.json"):
        (tmp_path / lost).unlink()
        async with open_index(tmp_path) as search:
            assert held(search) == set()
            assert await apply(core.bus, search) == 2
            assert [p.chunk for p in await ask(search, "one passage")] == [p.chunk for p in before]


async def test_another_log_replaces_what_the_old_one_said(core: Core, tmp_path: Path) -> None:
    await publish(core.bus, ONE, TWO)
    async with open_index(tmp_path) as search:
        await apply(core.bus, search)
        await core.bus.js.delete_stream(DOCUMENTS.name)
        await core.bus.ensure()
        await publish(core.bus, TWO, THREE)
        assert await apply(core.bus, search) == 2  # one is removed, three is new, two is as it was
        assert held(search) == {("acme", "two"), ("acme", "three")}
        assert await apply(core.bus, search) == 0


async def test_what_cannot_be_read_is_said_and_passed_over(
    core: Core, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(core.bus, ONE)
    await core.bus.publish(documents("acme", "broken"), b"\xc1 not msgpack")
    await publish(core.bus, TWO)
    async with open_index(tmp_path) as search:
        with caplog.at_level(logging.WARNING):
            assert await apply(core.bus, search) == 2
        assert held(search) == {("acme", "one"), ("acme", "two")}
    assert "document broken of tenant acme cannot be indexed" in caplog.text


async def test_a_large_document_comes_from_the_object_store(core: Core, tmp_path: Path) -> None:
    large = document("large", *(f"passage {n} " + "word " * 400 for n in range(400)))
    assert len(msgspec.msgpack.encode(large)) > CLAIM_BYTES
    await publish(core.bus, large)
    async with open_index(tmp_path) as search:
        assert await apply(core.bus, search) == 1
        (best, *_) = await ask(search, "passage 123")
        assert best.chunk == "large#123"


class Refusing(Edge):
    """An engine that counts what it is given, and does not take one document."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.given: list[list[str]] = []

    async def replace(self, tenant: str, *entries: Entry) -> None:
        self.given.append([entry.document for entry in entries])
        if any(entry.document == "two" for entry in entries):
            raise Poison("document 'two' of tenant 'acme': too odd")
        await super().replace(tenant, *entries)


async def test_documents_go_to_the_engine_together_and_one_that_it_does_not_take_keeps_none_out(
    core: Core, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Refusing(tmp_path / "edge")
    async with opened(FakeEncoder(), Statistics(tmp_path / "statistics.sqlite"), edge, edge) as search:
        await publish(core.bus, ONE, THREE)
        assert await apply(core.bus, search) == 2
        assert edge.given == [["one", "three"]]
        await publish(
            core.bus, replace(ONE, revision="2"), TWO, replace(THREE, revision="2"), document("one", tenant="b")
        )
        with caplog.at_level(logging.WARNING, "penstock.retrieve"):
            assert await apply(core.bus, search) == 2
        assert [text for text in caplog.messages if "too odd" in text and "document two of tenant acme" in text]
        with search.statistics.view("acme") as view:
            assert [view.revision(name) for name in ("one", "two", "three")] == ["2", None, "2"]
        assert await apply(core.bus, search) == 0


async def test_as_many_documents_go_together_as_have_so_many_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "TOGETHER", 3)
    edge = Refusing(tmp_path / "edge")
    async with opened(FakeEncoder(), Statistics(tmp_path / "statistics.sqlite"), edge, edge) as search:
        some = [document(f"d{n}", *(f"passage {place} of {n}" for place in range(2))) for n in range(5)]
        assert await search.indexer.put_all("acme", some) == [True] * 5
        assert edge.given == [["d0", "d1"], ["d2", "d3"], ["d4"]]
        assert {passage.document for passage in await ask(search, "passage")} == {f"d{n}" for n in range(5)}


class Breaks(FakeEncoder):
    """Fails at the word "two" until it is repaired."""

    repaired = False

    def encode_passages(self, passages: Sequence[Sequence[str]], batch: int = 8) -> list[PassageVectors]:
        if not self.repaired and any("two" in piece for pieces in passages for piece in pieces):
            raise RuntimeError("power cut")
        return super().encode_passages(passages, batch)


async def test_a_replay_that_breaks_off_goes_on_where_it_was(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "AT_ONCE", 1)
    await publish(core.bus, ONE)
    encoder = Breaks()
    async with open_index(tmp_path, encoder) as search:
        await apply(core.bus, search)
        await publish(core.bus, THREE, TWO)
        with pytest.raises(RuntimeError, match="power cut"):
            await apply(core.bus, search)
        assert held(search) == {("acme", "one"), ("acme", "three")}
    encoder.repaired = True
    encoder.encoded.clear()
    async with open_index(tmp_path, encoder) as search:
        assert await apply(core.bus, search) == 1
        assert encoder.encoded == ["two passage", "second passage"]
