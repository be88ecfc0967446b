"""Checks of servers that are well, down, hanging, slow, old, and that turn us down. Real ones where there are any."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from servers import free_port, start_nats, start_redis

from client import servers
from client.cli.main import run
from client.client import Penstock
from client.servers import Check, model_endpoint, nats_server, opensearch_server, qdrant_server, redis_server
from client.stack import down, up
from shared.bus import Bus
from shared.models import Model

pytestmark = pytest.mark.servers

Checks = Callable[[str], Awaitable[Check]]
EVERY: dict[str, tuple[str, Checks]] = {
    "NATS": ("nats://me:secret@", nats_server),
    "Redis": ("redis://me:secret@", redis_server),
    "Qdrant": ("http://", lambda url: qdrant_server(url, "secret")),
    "OpenSearch": ("http://me:secret@", opensearch_server),
    "model large": ("http://", lambda url: model_endpoint(model(url))),
}
EACH = pytest.mark.parametrize("name", EVERY)


def model(url: str) -> Model:
    return Model(name="large", engine="openai", base_url=f"{url}/v1", id="large-1")


@asynccontextmanager
async def stand_in(answer: Callable[[bytes], bytes], greeting: bytes = b"", pause_s: float = 0.0) -> AsyncIterator[str]:
    """A TCP server that greets, then answers what it is told; its host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while data := await reader.read(65536):
            await asyncio.sleep(pause_s)
            writer.write(answer(data))
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"127.0.0.1:{port}"


def says(status: int, body: object) -> Callable[[bytes], bytes]:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return lambda _: head.encode() + content


def is_one_line(check: Check, name: str, place: str) -> None:
    assert not check.ok
    assert check.name == name
    assert place in check.found
    assert "secret" not in check.found
    assert "\n" not in check.found + check.todo
    assert check.todo


@EACH
async def test_a_server_that_is_down(name: str) -> None:
    scheme, check = EVERY[name]
    place = f"127.0.0.1:{free_port()}"
    found = await check(f"{scheme}{place}")
    is_one_line(found, name, place)
    assert "nobody answers" in found.found


@EACH
async def test_a_server_that_hangs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "TIMEOUT_S", 0.3)
    scheme, check = EVERY[name]
    async with stand_in(lambda _: b"") as place:
        found = await check(f"{scheme}{place}")
    is_one_line(found, name, place)
    assert "says nothing within 0.3 s" in found.found


OLD = {
    "NATS": (lambda _: b"", b'INFO {"version": "2.9.1", "jetstream": true}\r\n', "is 2.9.1, expected 2.12 or newer"),
    "Qdrant": (says(200, {"title": "qdrant", "version": "1.2.0"}), b"", "is 1.2.0, expected 1.10 or newer"),
    "OpenSearch": (says(200, {"version": {"number": "1.3.0"}}), b"", "is 1.3.0, expected 2.0 or newer"),
}


@pytest.mark.parametrize("name", OLD)
async def test_a_server_that_is_too_old(name: str) -> None:
    answer, greeting, message = OLD[name]
    async with stand_in(answer, greeting) as place:
        found = await EVERY[name][1](f"{EVERY[name][0]}{place}")
    is_one_line(found, name, place)
    assert message in found.found


async def test_a_nats_server_that_is_too_old_for_accounts() -> None:
    async with stand_in(lambda _: b"", b'INFO {"version": "2.12.4", "jetstream": true}\r\n') as place:
        found = await nats_server(f"nats://penstock-operator:secret@{place}")
    is_one_line(found, "NATS", place)
    assert "is 2.12.4, expected 2.14 or newer" in found.found


async def test_a_nats_server_without_jetstream() -> None:
    async with stand_in(lambda _: b"", b'INFO {"version": "2.15.1"}\r\n') as place:
        is_one_line(found := await nats_server(f"nats://{place}"), "NATS", place)
    assert "JetStream is off" in found.found


@pytest.mark.parametrize("name", ["Qdrant", "OpenSearch", "model large"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_turns_us_down(name: str, status: int) -> None:
    async with stand_in(says(status, {})) as place:
        found = await EVERY[name][1](f"{EVERY[name][0]}{place}")
    is_one_line(found, name, place)
    assert "down" in found.found


@pytest.mark.parametrize("name", ["Qdrant", "OpenSearch", "model large"])
async def test_a_server_that_is_slow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SLOW_S", 0.2)
    good = says(200, {"title": "x", "version": "9.0.0" if name == "Qdrant" else {"number": "9.0.0"}})
    async with stand_in(good, pause_s=0.3) as place:
        found = await EVERY[name][1](f"{EVERY[name][0]}{place}")
    is_one_line(found, name, place)
    assert "slow" in found.found


async def test_the_real_servers_of_a_stack_and_wrong_passwords(tmp_path: Path) -> None:
    data = tmp_path / "data"
    info = await asyncio.to_thread(up, data, services={})
    try:
        for check in (await nats_server(info.operator_url), await redis_server(info.redis_url)):
            assert check.ok, check
        for name, url, check_ in (("NATS", info.operator_url, nats_server), ("Redis", info.redis_url, redis_server)):
            wrong = url.replace(url.split("@")[0].rpartition(":")[2], "secret")
            found = await check_(wrong)
            is_one_line(found, name, "127.0.0.1")
            assert "turns user or password down" in found.found
    finally:
        await asyncio.to_thread(down, data)


async def test_a_redis_that_keeps_nothing(tmp_path: Path) -> None:
    with start_redis(tmp_path) as url:
        is_one_line(found := await redis_server(url), "Redis", "127.0.0.1")
    assert "keeps nothing on disk" in found.found


async def test_a_clock_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SKEW_S", -1.0)  # so that any clock is
    with start_nats(tmp_path) as server:
        async with await Penstock.connect(server.url) as penstock:
            await Bus.on(penstock.nc).ensure()
        is_one_line(found := await nats_server(server.url), "NATS", "127.0.0.1")
    assert "its clock is" in found.found


async def test_a_key_that_is_not_set() -> None:
    keyed = Model(name="large", engine="openai", base_url="http://127.0.0.1:1", id="x", api_key_env="NO_SUCH_KEY")
    is_one_line(found := await model_endpoint(keyed), "model large", "NO_SUCH_KEY")
    assert found.todo == "export NO_SUCH_KEY=…"


async def test_servers_elsewhere_are_checked_where_the_environment_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nats").write_text(f"nats://me:secret@127.0.0.1:{free_port()}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_NATS_URL_FILE", str(tmp_path / "nats"))
    monkeypatch.setenv("PENSTOCK_RETRIEVE_WORDS", "opensearch")
    monkeypatch.setenv("PENSTOCK_RETRIEVE_OPENSEARCH_URL", f"http://127.0.0.1:{free_port()}")
    assert await asyncio.to_thread(run, ["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["checks"]
    assert {check["name"] for check in found} == {"Python", "encoder", "disk", "NATS", "OpenSearch"}
    assert {check["name"] for check in found if not check["ok"]} >= {"NATS", "OpenSearch"}
