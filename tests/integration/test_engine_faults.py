"""Engines that are away, that turn us down, or that hold something else: one clear line, and never a secret."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Literal

import pytest
from engines import Engine, asked, entry, point
from qdrant_client import AsyncQdrantClient
from qdrant_client.models import Distance, VectorParams
from servers import free_port

from services.retrieve.adapters.edge import Edge
from services.retrieve.adapters.engines import engines, open_search, statistics_name
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.qdrant import Qdrant
from services.retrieve.config import RetrieveSettings
from services.retrieve.domain.ports import Level, Scope
from shared.errors import PenstockError, Poison, Retryable
from shared.settings import SettingsError

SECRET = "hush-hush"
EACH = pytest.mark.parametrize("kind", ["QDRANT", "OPENSEARCH"])


def engine(kind: str, port: int) -> Engine:
    if kind == "QDRANT":
        return Qdrant(f"http://127.0.0.1:{port}", SECRET, "penstock")
    return OpenSearch(f"http://user:{SECRET}@127.0.0.1:{port}", "penstock")


async def what_each_method_raises(engine: Engine) -> list[PenstockError]:
    query, whole = asked("common"), entry("a", point(1, "common"))
    raised: list[PenstockError] = []
    for call in (
        engine.open(),
        engine.replace("acme", whole),
        engine.remove("acme", "a"),
        engine.matching("acme", query, Scope(), Level.PASSAGE, 10),
    ):
        with pytest.raises(PenstockError) as error:
            await call
        raised.append(error.value)
    await engine.close()
    return raised


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """A server that answers everything in the same way; its port."""

    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815  # names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def assert_clear(error: PenstockError, *parts: str) -> None:
    text = str(error)
    assert all(part in text for part in parts), text
    assert SECRET not in text
    assert "\n" not in text
    assert len(text) < 400


@EACH
async def test_a_server_that_is_away_is_named_with_its_setting(kind: str) -> None:
    port = free_port()
    for error in await what_each_method_raises(engine(kind, port)):
        assert isinstance(error, Retryable)
        assert_clear(error, f"http://127.0.0.1:{port}", f"PENSTOCK_RETRIEVE_{kind}_URL", "does not answer")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("kind", "setting"), [("QDRANT", "QDRANT_KEY"), ("OPENSEARCH", "OPENSEARCH_URL")])
async def test_wrong_credentials_are_named_with_their_setting(kind: str, setting: str, status: int) -> None:
    with answering(status, b'{"error": "who are you?"}') as port:
        for error in await what_each_method_raises(engine(kind, port)):
            assert isinstance(error, Retryable)
            assert_clear(error, f"127.0.0.1:{port}", f"PENSTOCK_RETRIEVE_{setting}", "turns down", str(status))


@EACH
@pytest.mark.parametrize(("status", "kind_of_error"), [(429, Retryable), (503, Retryable), (413, Poison)])
async def test_what_may_pass_comes_again_and_what_may_not_does_not(
    kind: str, status: int, kind_of_error: type[PenstockError]
) -> None:
    with answering(status, b'{"error": {"reason": "such is life"}}') as port:
        for error in await what_each_method_raises(engine(kind, port)):
            assert isinstance(error, kind_of_error)
            assert_clear(error, f"127.0.0.1:{port}", str(status))


@EACH
async def test_another_kind_of_server_is_no_empty_result(kind: str) -> None:
    with answering(200, b"<html>hello</html>") as port:
        asking = engine(kind, port)
        with pytest.raises(PenstockError) as error:
            await asking.matching("acme", asked("common"), Scope(), Level.PASSAGE, 10)
        await asking.close()
        assert_clear(error.value, f"127.0.0.1:{port}", f"PENSTOCK_RETRIEVE_{kind}_URL")


async def test_a_collection_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = AsyncQdrantClient(":memory:")
    await other.create_collection("penstock", vectors_config=VectorParams(size=3, distance=Distance.DOT))
    qdrant = Qdrant(":memory:", "", "penstock")
    monkeypatch.setattr(qdrant, "_client", other)
    with pytest.raises(SettingsError, match=r"PENSTOCK_RETRIEVE_INDEX_NAME: .*'penstock'"):
        await qdrant.open()
    await qdrant.close()


@pytest.mark.parametrize(
    ("vectors", "words", "expected"),
    [
        ("edge", "edge", (Edge, Edge)),
        ("edge", "qdrant", (Edge, Qdrant)),
        ("edge", "opensearch", (Edge, OpenSearch)),
        ("qdrant", "edge", (Qdrant, Edge)),
        ("qdrant", "qdrant", (Qdrant, Qdrant)),
        ("qdrant", "opensearch", (Qdrant, OpenSearch)),
    ],
)
async def test_settings_choose_any_mix_and_one_engine_serves_both_where_they_agree(
    vectors: Literal["edge", "qdrant"],
    words: Literal["edge", "qdrant", "opensearch"],
    expected: tuple[type[Engine], type[Engine]],
    tmp_path: Path,
) -> None:
    chosen = engines(RetrieveSettings(vectors=vectors, words=words), tmp_path)
    assert (type(chosen[0]), type(chosen[1])) == expected
    assert len({id(one) for one in chosen}) == (1 if vectors == words else 2)
    for one in chosen:
        await one.close()


def test_each_choice_of_engines_and_places_has_its_own_statistics() -> None:
    choices = [
        RetrieveSettings(),
        RetrieveSettings(words="qdrant"),
        RetrieveSettings(vectors="qdrant"),
        RetrieveSettings(words="opensearch"),
        RetrieveSettings(words="opensearch", index_name="other"),
        RetrieveSettings(words="opensearch", opensearch_url="http://elsewhere:9200"),
    ]
    assert len({statistics_name(choice) for choice in choices}) == len(choices)
    assert statistics_name(RetrieveSettings(qdrant_url="http://elsewhere:1")) == statistics_name(RetrieveSettings())


def test_a_new_password_does_not_begin_the_statistics_anew() -> None:
    old, new = (
        RetrieveSettings(words="opensearch", opensearch_url=f"https://user:{word}@search:9200") for word in ("a", "b")
    )
    assert statistics_name(old) == statistics_name(new)


async def test_the_index_does_not_open_while_a_server_is_away(tmp_path: Path) -> None:
    away = RetrieveSettings(words="opensearch", opensearch_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Retryable, match="PENSTOCK_RETRIEVE_OPENSEARCH_URL"):
        async with open_search(away, tmp_path):
            pass
    async with open_search(RetrieveSettings(), tmp_path) as search:  # nothing of the failed start is held
        assert await search.finder.find("acme", "anything", {}, 5) == []
