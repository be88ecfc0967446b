"""Documents in the log: written by ingest, read by whoever needs them, on a real nats-server."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.js.api import ObjectStoreConfig, StreamConfig
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.documents import Chunk, Document
from contracts.item import DocumentRef, Input, Item
from contracts.steps import Parse
from services.ingest.adapters.library import BusFiles, BusLibrary
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.parser import Parser
from services.ingest.handlers import parse
from shared.bus import Bus
from shared.errors import ItemError, Poison
from shared.library import Library

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    command = [server, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(tmp_path_factory.mktemp("js"))]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
async def bus(url: str) -> AsyncIterator[Bus]:
    nc = await nats.connect(url, max_reconnect_attempts=100, reconnect_time_wait=0.05)
    bus = Bus.on(nc)
    log = subjects.DOCUMENTS
    await bus.js.add_stream(
        StreamConfig(log.name, subjects=list(log.subjects), max_msgs_per_subject=log.per_subject, allow_direct=True)
    )
    for bucket in (subjects.CLAIMS, subjects.LIBRARY):
        await bus.js.create_object_store(bucket.name, ObjectStoreConfig(bucket=bucket.name, ttl=bucket.ttl_s))
    yield bus
    for name in (log.name, f"OBJ_{subjects.CLAIMS.name}", f"OBJ_{subjects.LIBRARY.name}"):
        await bus.js.purge_stream(name)
    await nc.close()


@pytest.fixture
def library(bus: Bus) -> BusLibrary:
    return BusLibrary(bus)


def document(name: str = "policy", revision: str = "r1", text: str = "Leave is 25 days.", chunks: int = 1) -> Document:
    parts = [Chunk(id=f"{name}#{i}", ordinal=i, text=f"{i} {text}", tokens=6) for i in range(chunks)]
    return Document(name, "acme", name.title(), f"{name}.txt", revision, parts)


def large(name: str = "large", revision: str = "r1") -> Document:
    return document(name, revision, text="x" * 1000, chunks=700)


async def stored(bus: Bus) -> list[str]:
    store = await bus.js.object_store(subjects.LIBRARY.name)
    try:
        return [info.name for info in await store.list() if not info.deleted]
    except NotFoundError:
        return []


async def test_what_was_published_last_is_read(bus: Bus, library: BusLibrary) -> None:
    await library.publish(document(revision="r1"))
    await library.publish(document(revision="r2", text="Leave is 30 days."))
    found = await Library(bus).get("acme", "policy")
    assert found is not None
    assert (found.revision, found.chunks[0].text) == ("r2", "0 Leave is 30 days.")


async def test_a_document_that_never_was_is_none(bus: Bus) -> None:
    assert await Library(bus).get("acme", "nothing") is None


async def test_other_tenants_documents_are_not_found(bus: Bus, library: BusLibrary) -> None:
    await library.publish(document())
    assert await Library(bus).get("other", "policy") is None


async def test_a_revision_published_twice_is_logged_once(bus: Bus, library: BusLibrary) -> None:
    await library.publish(document())
    before = (await bus.js.stream_info(subjects.DOCUMENTS.name)).state.last_seq
    await library.publish(document())
    await BusLibrary(bus).publish(document())
    assert (await bus.js.stream_info(subjects.DOCUMENTS.name)).state.last_seq == before


async def test_two_workers_that_publish_at_the_same_time_log_one_revision_each(bus: Bus) -> None:
    before = (await bus.js.stream_info(subjects.DOCUMENTS.name)).state.last_seq
    workers = [BusLibrary(bus) for _ in range(6)]
    await asyncio.gather(*(worker.publish(document(revision=f"r{i % 2}")) for i, worker in enumerate(workers)))
    found = await Library(bus).find("acme", "policy")
    assert found is not None
    assert found.document.revision in {"r0", "r1"}
    assert before < found.sequence <= before + len(workers)


async def test_going_back_to_an_old_revision_within_the_dedupe_window_counts(bus: Bus, library: BusLibrary) -> None:
    for revision in ("r1", "r2", "r1"):
        await library.publish(document(revision=revision))
    found = await library.get("acme", "policy")
    assert found is not None
    assert found.revision == "r1"


async def test_a_large_document_goes_through_the_bucket_that_does_not_expire(bus: Bus, library: BusLibrary) -> None:
    await library.publish(large())
    message = await bus.js.get_last_msg(subjects.DOCUMENTS.name, subjects.documents("acme", "large"))
    assert not message.data
    assert await stored(bus) == [(message.headers or {})[subjects.CLAIM]]
    assert await Library(bus).get("acme", "large") == large()
    status = await (await bus.js.object_store(subjects.LIBRARY.name)).status()
    assert status.ttl in (None, 0)


async def test_the_object_of_a_replaced_document_is_deleted(bus: Bus, library: BusLibrary) -> None:
    await library.publish(large(revision="r1"))
    await library.publish(large(revision="r2"))
    assert len(await stored(bus)) == 1
    await library.publish(document("large", "r3"))
    assert await stored(bus) == []
    assert (await library.get("acme", "large")) == document("large", "r3")


async def test_a_document_whose_object_is_lost_says_so(bus: Bus, library: BusLibrary) -> None:
    await library.publish(large())
    store = await bus.js.object_store(subjects.LIBRARY.name)
    for name in await stored(bus):
        await store.delete(name)
    with pytest.raises(Poison, match=r"documents\.acme\.large.*ingest the document again"):
        await Library(bus).get("acme", "large")


async def test_replay_gives_the_last_revision_of_each_document_and_ends(bus: Bus, library: BusLibrary) -> None:
    for each in (document("a"), document("b"), large("c"), document("a", "r2")):
        await library.publish(each)
    replayed = [(sequence, found.id, found.revision) async for sequence, found in Library(bus).replay()]
    assert [(name, revision) for _, name, revision in replayed] == [("b", "r1"), ("c", "r1"), ("a", "r2")]
    middle = replayed[0][0]
    assert [found.id async for _, found in Library(bus).replay(middle)] == ["c", "a"]
    assert [found.id async for _, found in Library(bus).replay(replayed[-1][0])] == []


async def test_an_upload_is_read_and_limits_hold_before_it_is_loaded(bus: Bus) -> None:
    claim = await bus.put_claim(b"x" * 2000)
    assert await BusFiles(bus, 2000, "acme").get_bytes("a.txt", claim) == b"x" * 2000
    with pytest.raises(ItemError, match=r"a\.txt: 2,000 bytes; at most 1,999 are read") as caught:
        await BusFiles(bus, 1999, "acme").get_bytes("a.txt", claim)
    assert caught.value.code == "too_large"
    with pytest.raises(ItemError, match=r"a\.txt: no upload 'gone'.*kept for 7 days"):
        await BusFiles(bus, 1999, "acme").get_bytes("a.txt", "gone")


async def test_parse_from_upload_to_log_and_back(bus: Bus, library: BusLibrary) -> None:
    parser = Parser(Limits(), most=1, idle_s=5)
    claim = await bus.put_claim(b"# Leave\n\n## 4.2 Carry-over\n\nFive days carry over to the next year.\n")
    item = Item(0, Input(document=DocumentRef("policy.md", claim=claim, metadata={"plan": "A"})))
    try:
        first = await parse([item], Parse(), parser, BusFiles(bus, 1 << 20, "acme"), library, "acme")
        again = await parse([item], Parse(), parser, BusFiles(bus, 1 << 20, "acme"), library, "acme")
    finally:
        await parser.close()
    assert first[0].document is not None
    assert again[0].document is not None
    assert (first[0].document.id, first[0].document.chunks, first[0].document.unchanged) == ("policy-md", 1, False)
    assert again[0].document.unchanged
    logged = await Library(bus).get("acme", "policy-md")
    assert logged is not None
    assert (logged.title, logged.metadata, logged.chunks[0].clause) == ("Leave", {"plan": "A"}, "4.2")
