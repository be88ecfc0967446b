"""Tenants come, change their passwords and go, on a real NATS server that goes on all the while."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from in_process import eventually
from nats.aio.client import Client
from servers import free_port, wait_for_port

from client.cli.main import run
from client.client import Penstock
from client.discovery import connected
from client.errors import NotFound, Unreachable, UsageError
from client.stack import StackInfo, compose, down, status, up
from client.stack.compose import Compose
from client.stack.config import nats_binary
from client.stack.lifecycle import running_site
from client.stack.secrets import load
from client.stack.tenants import Access, add, forget, listed, remove, rotate
from shared.bus import Bus
from shared.settings import SettingsError

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    data = tmp_path_factory.mktemp("tenants")
    yield up(data, services={})
    down(data)


def added(stack: StackInfo, tenant: str, user: str = "") -> Access:
    with running_site(Path(stack.data)) as site:
        return asyncio.run(add(site, tenant, user))


async def submits(url: str, tenant: str) -> int:
    async with await Penstock.connect(url, tenant) as penstock:
        return (await penstock.submit("rag", [b'{"question": "q"}'])).sequence


async def refused(url: str) -> bool:
    try:
        async with connected(url):
            return False
    except Unreachable as error:
        return "authorization" in str(error).lower()


@asynccontextmanager
async def staying(url: str) -> AsyncIterator[Client]:
    """A connection that does not come back once it is cut."""

    async def silent(_: Exception) -> None: ...

    nc = await nats.connect(url, allow_reconnect=False, error_cb=silent)
    yield nc
    await nc.close()


def test_a_tenant_joins_and_nothing_is_restarted(stack: StackInfo) -> None:
    async def world() -> None:
        async with staying(stack.nats_url) as held, staying(stack.operator_url) as operator:
            heard = await held.subscribe("live.results.default.>")
            await held.flush()
            access = await asyncio.to_thread(added, stack, "late")
            assert (access.tenant, access.user, access.is_new, access.reloaded) == ("late", "late", True, True)
            assert await submits(access.url, "late") == 1
            bus = Bus.on(operator, accounts=True)
            async with staying(access.url) as late:
                mine = await late.subscribe("live.results.late.>")
                await late.flush()
                await bus.publish("results.late.j.0", b"of late")
                assert (await mine.next_msg(timeout=20)).data == b"of late"

                async def copied() -> bool:
                    return (await late.jetstream().stream_info("RESULTS")).state.messages == 1

                await eventually(copied)
            await bus.publish("results.default.j.0", b"of default")
            assert (await heard.next_msg(timeout=5)).data == b"of default"
            assert held.is_connected

    before = status(Path(stack.data))
    asyncio.run(world())
    after = status(Path(stack.data))
    assert before is not None
    assert after is not None
    assert before.pids == after.pids


def test_many_tenants_start_with_the_sizes_that_are_set_and_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen accounts of 64 GB would be more than a terabyte, and a server that may reserve no more does not start."""

    async def world(url: str, *urls: str) -> None:
        async with connected(url) as operator:
            results = (await operator.jetstream().stream_info("RESULTS")).config
            queue = (await operator.jetstream().stream_info("JOBS_t19")).config
            assert (results.max_bytes, results.max_age) == (3 << 30, 86400)
            assert queue.max_bytes == 1 << 29
        for tenant in urls:
            async with connected(tenant) as nc:
                copy = (await nc.jetstream().stream_info("RESULTS")).config
                assert (copy.max_bytes, copy.max_age) == (-1, 86400)
                assert (await nc.jetstream().account_info()).limits.max_storage == 100 << 30

    for name, value in {"RESULTS_GB": "3", "RESULTS_DAYS": "1", "JOBS_GB": "0.5", "TENANT_GB": "100"}.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", value)
    try:
        stack = up(tmp_path, services={}, tenants=[f"t{n}" for n in range(20)])
        for name in ("RESULTS_GB", "RESULTS_DAYS", "JOBS_GB", "TENANT_GB"):
            monkeypatch.delenv(f"PENSTOCK_{name}")
        late = added(stack, "late")
        asyncio.run(world(stack.operator_url, stack.nats_url, late.url))
        monkeypatch.setenv("PENSTOCK_RESULTS_GB", "much")
        with pytest.raises(SettingsError, match="PENSTOCK_RESULTS_GB: "):
            added(stack, "later")
    finally:
        down(tmp_path)


def test_adding_again_changes_nothing(stack: StackInfo) -> None:
    first, second = added(stack, "twice"), added(stack, "twice")
    assert first.is_new
    assert not second.is_new
    assert first.url == second.url
    assert asyncio.run(submits(first.url, "twice")) == 1


def test_a_rotated_password_stops_at_once(stack: StackInfo) -> None:
    async def world() -> None:
        old = await asyncio.to_thread(added, stack, "rotates")
        other = await asyncio.to_thread(added, stack, "rotates", "alice")
        async with staying(old.url) as held, staying(other.url) as bystander:
            with running_site(Path(stack.data)) as site:
                new = await rotate(site, "rotates")
            await eventually(lambda: held.is_closed)
            assert bystander.is_connected
        assert new.url != old.url
        assert await refused(old.url)
        assert await submits(new.url, "rotates") == 1
        assert await submits(other.url, "rotates") == 2

    asyncio.run(world())


def test_a_user_may_what_its_tenant_may_and_goes_alone(stack: StackInfo) -> None:
    async def world() -> None:
        first = await asyncio.to_thread(added, stack, "team")
        alice = await asyncio.to_thread(added, stack, "team", "alice")
        assert alice.user == "team.alice"
        assert (await submits(first.url, "team"), await submits(alice.url, "team")) == (1, 2)
        errors: list[str] = []

        async def remember(error: Exception) -> None:
            errors.append(str(error))

        nc = await nats.connect(alice.url, error_cb=remember)
        for subject in ("jobs.default.rag", "results.team.j.0", "$JS.API.STREAM.DELETE.RESULTS"):
            await nc.publish(subject, b"{}")
            await nc.flush()
        await eventually(lambda: len(errors) == 3)
        assert all("permissions violation" in error.lower() for error in errors)
        await nc.close()
        with running_site(Path(stack.data)) as site:
            assert await remove(site, "team", "alice")
        assert await refused(alice.url)
        assert await submits(first.url, "team") == 3

    asyncio.run(world())


def test_a_removed_tenant_is_shut_out_and_its_data_stays(stack: StackInfo) -> None:
    async def world() -> None:
        access = await asyncio.to_thread(added, stack, "leaves")
        alice = await asyncio.to_thread(added, stack, "leaves", "alice")
        assert await submits(access.url, "leaves") == 1
        async with staying(access.url) as held:
            with running_site(Path(stack.data)) as site:
                assert await remove(site, "leaves")
                gone = next(one for one in listed(site.known()) if one.tenant == "leaves")
            await eventually(lambda: held.is_closed)
        assert gone.removed
        assert gone.users == []
        assert await refused(access.url)
        assert await refused(alice.url)
        async with staying(stack.operator_url) as operator:
            assert (await operator.jetstream().stream_info("JOBS_leaves")).state.messages == 1
        back = await asyncio.to_thread(added, stack, "leaves")
        assert await refused(access.url)
        assert await submits(back.url, "leaves") == 2
        assert await submits(stack.nats_url, "default") > 0

    asyncio.run(world())


def test_a_forgotten_tenant_can_come_anew(stack: StackInfo) -> None:
    async def world() -> None:
        first = await asyncio.to_thread(added, stack, "again")
        with running_site(Path(stack.data)) as site:
            await remove(site, "again")
            await forget(site, "again")
            assert "again" not in {one.tenant for one in listed(site.known())}
        second = await asyncio.to_thread(added, stack, "again")
        assert await refused(first.url)
        assert await submits(second.url, "again") == 1

    asyncio.run(world())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["remove", "default"], 2, "it belongs to the stack"),
        (["remove", "nobody"], 2, "there is none of this name; see: penstock tenant list"),
        (["rotate", "default", "--user", "nobody"], 2, "it has no user nobody"),
        (["add", "default", "--user", "a.b"], 2, "--user 'a.b': expected 1 to 64 letters"),
        (["add", "a.b"], 3, "tenant 'a.b': expected letters, digits, - and _"),
        (["add", "penstock-x"], 3, "not beginning with penstock-"),
        (["add", "nobody", "--user", "alice"], 2, "there is none of this name"),
    ],
)
def test_what_cannot_be_is_one_line(
    stack: StackInfo, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tenant", *arguments, "--data", stack.data]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_the_command_says_the_address_and_keeps_stack_json_right(
    stack: StackInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tenant", "rotate", "default", "--data", stack.data, "--json"]) == 0
    url = json.loads(capsys.readouterr().out)["url"]
    now = status(Path(stack.data))
    assert now is not None
    assert now.nats_url == url != stack.nats_url
    assert load(Path(stack.data)).tenants["default"] in url
    assert run(["tenant", "list", "--data", stack.data, "--json"]) == 0
    assert {"tenant": "default", "users": ["default"], "removed": False} in json.loads(capsys.readouterr().out)


def test_without_a_stack_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tenant", "add", "acme", "--data", str(tmp_path)]) == 3
    assert "no stack is running" in capsys.readouterr().err


def test_the_stack_of_compose_is_told_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NATS server on the files that `make secrets` writes; each is mounted on its own, so none may be replaced."""
    folder, port = tmp_path / "secrets", free_port()
    monkeypatch.setattr(compose, "NATS", compose.NATS.replace('"/data"', f'"{tmp_path}/store"'))
    site = Compose(folder, f"127.0.0.1:{port}")
    site.write()

    async def world() -> None:
        access = await add(site, "acme")
        assert access.reloaded
        assert await submits(access.url, "acme") == 1
        assert (folder / "acme.url").read_text() == access.url
        rotated = await rotate(site, "acme")
        assert await refused(access.url)
        assert await submits(rotated.url, "acme") == 2
        await remove(site, "acme")
        assert await refused(rotated.url)
        assert not (folder / "acme.url").exists()

    assert not asyncio.run(add(site, "early")).reloaded  # NATS is not there yet
    inodes = {file.name: file.stat().st_ino for file in folder.iterdir()}
    command = [str(nats_binary()), "-c", str(folder / "nats.conf"), "-p", str(port), "-m", str(free_port())]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        asyncio.run(world())
    finally:
        server.terminate()
        server.wait(10)
    assert {file.name: file.stat().st_ino for file in folder.iterdir()} == inodes


def test_errors_name_what_was_expected(tmp_path: Path) -> None:
    site = Compose(tmp_path, "127.0.0.1:1")
    site.write()
    with pytest.raises(UsageError, match="belongs to the stack"):
        asyncio.run(remove(site, "default"))
    with pytest.raises(NotFound, match="none of this name"):
        asyncio.run(rotate(site, "acme"))
