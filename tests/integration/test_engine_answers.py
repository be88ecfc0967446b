"""What servers of engines may answer: another kind or version, too much to do, one point that they do not take; and
what they are told. On servers that follow a script, since real ones do none of this on demand."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from engines import Engine, asked, entry, point

from services.retrieve.adapters import opensearch
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.qdrant import Qdrant
from services.retrieve.adapters.qdrant_shape import Quantization, Storage
from services.retrieve.domain.ports import Level, Scope
from shared.errors import Poison, Retryable
from shared.settings import SettingsError

Body = dict[str, Any]
OPENSEARCH: Body = {"version": {"distribution": "opensearch", "number": "2.19.1"}}
QDRANT: Body = {"title": "qdrant - vector search engine", "version": "1.16.3"}


@dataclass
class Scripted:
    """Answers by method and end of the path, in turn where there are several answers; keeps what it was asked."""

    answers: dict[tuple[str, str], list[tuple[int, object]]]
    port: int = 0
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        self.asked.append((method, path, body))
        for (wanted, end), answers in self.answers.items():
            if wanted == method and path.partition("?")[0].endswith(end):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return 200, {"result": True, "status": "ok", "time": 0.0}

    def bodies(self, method: str, end: str) -> list[bytes]:
        return [body for wanted, path, body in self.asked if wanted == method and path.partition("?")[0].endswith(end)]


@contextmanager
def scripted(answers: dict[tuple[str, str], list[tuple[int, object]]], slow_s: float = 0) -> Iterator[Scripted]:
    script = Scripted(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = script.answer(self.command, self.path, asked)
            time.sleep(slow_s)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815  # names of http.server

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def on_opensearch(port: int) -> Engine:
    return OpenSearch(f"http://127.0.0.1:{port}", "penstock", timeout_s=1)


def on_qdrant(port: int) -> Engine:
    return Qdrant(f"http://127.0.0.1:{port}", "", "penstock", timeout_s=1)


@pytest.mark.parametrize(
    ("opening", "answer", "said"),
    [
        (
            on_opensearch,
            {"version": {"number": "8.15.0"}},
            r"is version 8.15.0 of another engine; expected OpenSearch 2",
        ),
        (on_opensearch, {"hello": "world"}, r"is no OpenSearch; expected OpenSearch 2 or newer"),
        (
            on_opensearch,
            {"version": {"distribution": "opensearch", "number": "1.3.20"}},
            r"is version 1.3.20; expected 2 or newer",
        ),
        (on_qdrant, QDRANT | {"version": "1.9.7"}, r"is version 1.9.7; expected 1.11 or newer"),
    ],
)
async def test_another_kind_or_version_is_refused_with_its_setting(
    opening: Callable[[int], Engine], answer: Body, said: str
) -> None:
    with scripted({("GET", "/"): [(200, answer)]}) as server:
        engine = opening(server.port)
        for start in (engine.open, engine.begin):
            with pytest.raises(SettingsError, match=rf"^PENSTOCK_RETRIEVE_\w+_URL: .*127.0.0.1:{server.port} {said}"):
                await start()
        await engine.close()
        assert all(method == "GET" for method, _, _ in server.asked)  # nothing was changed


@pytest.mark.parametrize("opening", [on_opensearch, on_qdrant])
async def test_a_slow_server_is_named_with_how_long_was_waited(opening: Callable[[int], Engine]) -> None:
    with scripted({}, slow_s=2) as server:
        engine = opening(server.port)
        with pytest.raises(Retryable, match=rf"127.0.0.1:{server.port} does not answer .*1 s.*PENSTOCK_RETRIEVE_"):
            await engine.matching("acme", asked("common"), Scope(), Level.PASSAGE, 10)
        await engine.close()


def took(id: int, status: int, reason: str = "") -> Body:
    return {"index": {"_id": str(id), "status": status} | ({"error": {"reason": reason}} if reason else {})}


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch, "_FIRST_PAUSE_S", 0.01)


@pytest.mark.usefixtures("_short_pauses")
async def test_opensearch_gets_again_what_it_was_too_busy_for_and_no_more() -> None:
    busy = "rejected execution of coordinating operation"
    bulk = [
        (429, {"error": {"reason": busy}}),
        (200, {"errors": True, "items": [took(1, 201), took(2, 429, busy), took(3, 201)]}),
        (200, {"errors": False, "items": [took(2, 201)]}),
    ]
    with scripted({("POST", "/_bulk"): [(status, body) for status, body in bulk]}) as server:
        engine = OpenSearch(f"http://127.0.0.1:{server.port}", "penstock")
        await engine.fill("acme", [entry("a", *(point(id, "common") for id in (1, 2, 3)))])
        await engine.close()
        sent = [body.count(b'"index"') for body in server.bodies("POST", "/_bulk")]
        assert sent == [3, 3, 1]


@pytest.mark.usefixtures("_short_pauses")
async def test_opensearch_that_stays_too_busy_is_named() -> None:
    bulk = (200, {"errors": True, "items": [took(1, 429, "rejected execution")]})
    with scripted({("POST", "/_bulk"): [bulk]}) as server:
        engine = OpenSearch(f"http://127.0.0.1:{server.port}", "penstock")
        with pytest.raises(
            Retryable, match=r"has too much to do \(429\): document 'a' of tenant 'acme': rejected exec"
        ):
            await engine.fill("acme", [entry("a", point(1, "common"))])
        await engine.close()


async def test_a_document_that_opensearch_does_not_take_is_named() -> None:
    items = [took(1, 201), took(2, 400, "failed to parse field [facets]")]
    with scripted({("POST", "/_bulk"): [(200, {"errors": True, "items": items})]}) as server:
        engine = OpenSearch(f"http://127.0.0.1:{server.port}", "penstock")
        with pytest.raises(Poison, match=r"document 'b' of tenant 'acme': failed to parse field \[facets\]"):
            await engine.fill("acme", [entry("a", point(1, "common")), entry("b", point(2, "common"))])
        await engine.close()


async def test_qdrant_gets_again_what_it_was_too_busy_for() -> None:
    well = (200, {"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0})
    answers = {("PUT", "/points"): [(429, {"status": {"error": "too busy"}}), well]}
    with scripted({key: list(some) for key, some in answers.items()}) as server:
        engine = Qdrant(f"http://127.0.0.1:{server.port}", "", "penstock")
        await engine.fill("acme", [entry("a", point(1, "common"))])
        await engine.close()
        assert len(server.bodies("PUT", "/points")) == 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", None),
        ("int8", {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}),
        ("binary", {"binary": {"always_ram": True}}),
    ],
)
async def test_a_collection_is_made_as_the_settings_say(kind: Quantization, expected: Body | None) -> None:
    nothing = {"result": {"aliases": []}, "status": "ok", "time": 0.0}
    missing = {"result": {"exists": False}, "status": "ok", "time": 0.0}
    well = {"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0}
    answers: dict[tuple[str, str], list[tuple[int, object]]] = {
        ("GET", "/"): [(200, QDRANT)],
        ("GET", "/aliases"): [(200, nothing)],
        ("GET", "/exists"): [(200, missing)],
        ("PUT", "/index"): [(200, well)],
    }
    answers = dict(sorted(answers.items(), key=lambda pair: -len(pair[0][1])))
    with scripted(answers) as server:
        engine = Qdrant(f"http://127.0.0.1:{server.port}", "", "penstock", Storage(kind, on_disk=True))
        assert await engine.open()
        await engine.close()
    (made,) = [json.loads(body) for body in server.bodies("PUT", "/collections/penstock-1")]
    assert made.get("quantization_config") == expected
    assert made["vectors"]["dense"]["on_disk"]
    assert made["sparse_vectors"]["words"]["index"]["on_disk"]
    assert made["hnsw_config"] == {"m": 0, "payload_m": 16, "on_disk": True}
    assert made["on_disk_payload"]
    indexes = {index["field_name"]: index["field_schema"] for index in map(json.loads, server.bodies("PUT", "/index"))}
    assert indexes["tenant"] == {"type": "keyword", "is_tenant": True, "on_disk": True}
    assert indexes["document"] == {"type": "keyword", "on_disk": True}
    (named,) = [json.loads(body) for body in server.bodies("POST", "/collections/aliases")]
    assert named == {"actions": [{"create_alias": {"collection_name": "penstock-1", "alias_name": "penstock"}}]}
