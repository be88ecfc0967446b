"""Everything of a tenant is exported, then erased, on the whole stack; another tenant's stays."""

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from client.cli.main import run
from client.client import Penstock
from client.stack.lifecycle import running_site
from client.stack.tenants import add, listed, remove
from client.tenant_data.stack import places
from client.tenant_data.streams import StreamOf
from contracts import accounts, subjects
from contracts.item import DocumentRef, Input
from contracts.job import Options
from contracts.subjects import BUCKETS, CLAIMS, CONTROL, ERASED, JOBS, LIBRARY, STREAMS
from contracts.task import Task
from e2e.running import Running, Script
from loadtest.scripted_model import Reply
from shared.bus import Bus
from shared.owner import owner, redis_patterns
from shared.streams import backing

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

TENANT, OTHER = "erasable", "bystander"
MARKS = {TENANT: "Zanzibarium", OTHER: "Quokkalite"}
TEXT = (
    "# {mark} handbook\n\n## 1.1 Use\n\nThe {mark} handbook says that {mark} must be stored below 40 degrees.\n\n"
    "## 1.2 Labels\n\nEach box of {mark} carries a label with its date.\n"
)


@dataclass
class World:
    """Both tenants have used everything that keeps something."""

    stack: Running
    bus: Bus
    redis: "Redis"
    urls: dict[str, str]

    async def fill(self, tenant: str, script: Script) -> None:
        mark = MARKS[tenant]
        script.when(mark, Reply(f"{mark} must be stored below 40 degrees.", prompt_tokens=10, completion_tokens=5))
        async with await Penstock.connect(self.urls[tenant], tenant) as penstock:
            claim = await penstock.upload(TEXT.format(mark=mark).encode())
            ref = DocumentRef(name=f"{mark}.md", claim=claim, metadata={"product": mark})
            short = DocumentRef(name=f"{mark}-2.txt", text=f"{mark} is heavy.")
            receipt = await penstock.submit("ingest", [Input(document=ref), Input(document=short)], Options())
            report = await penstock.report(receipt, timeout_s=120)
            assert report.succeeded == 2, report
            question = f"How must {mark} be stored?"
            for options in (Options(model="scripted"), Options()):
                answer = await penstock.ask(question, session=f"{mark}-session", options=options)
                assert answer.answer is not None, answer
                assert mark in answer.answer.text
            wide = [Input(question=f"{mark}? " + "x" * 30_000) for _ in range(60)]
            await penstock.report(await penstock.submit("noop", wide), timeout_s=60)
        waiting = Task(
            f"{tenant}/stuck/0", tenant, "stuck", "rag", [], [], f"{tenant}/stuck", 0, options=Options(session=mark)
        )
        task = msgspec.msgpack.encode(waiting)  # for a service that does not run, so it stays
        await self.bus.publish("work.nobody.batch", task, msg_id=f"{tenant}/stuck/0.0")
        unreadable = b"not a task, of " + mark.encode()
        await self.bus.publish("work.rerank.batch", unreadable, headers={subjects.SHARD: f"{tenant}/j 0 0"})
        await self.bus.park(f"{tenant}/stuck", task + b" " * 600_000)  # so large that it goes by claim
        await (await self.bus.objects(LIBRARY.name)).put(f"{tenant}.large.r1.0", mark.encode() * 9)

    async def held(self, tenant: str) -> dict[str, int]:
        """What each place holds of a tenant."""
        found = {}
        for place in await places(self.bus, self.redis, tenant):
            found[place.name] = len([record async for record in place.records()])
        return found

    async def mentions(self, word: str) -> list[str]:
        """Every message, object and key that has the word in its name or content, in all accounts."""
        found = []
        streams = [(stream.name, "$JS.API") for stream in STREAMS if stream not in (JOBS, CONTROL)]
        streams += [(backing(bucket), "$JS.API") for bucket in BUCKETS]
        for tenant in MARKS:
            streams += [(own(tenant).name, "$JS.API") for own in (accounts.queue, accounts.control)]
            streams += [(name, accounts.api(tenant)) for name in ("RESULTS", "EVENTS", backing(CLAIMS))]
        for name, api in streams:
            async for message in StreamOf(self.bus.nc, name, api).messages():
                text = f"{message.subject} {message.headers}".encode() + (message.data or b"")
                if word.encode() in text:
                    found.append(f"{name} {message.subject}")
        async for key in self.redis.scan_iter("*"):
            dumped = key + (await self.redis.dump(key) or b"") if await self.redis.exists(key) else b""
            if word.encode() in dumped:
                found.append(f"Redis {key!r}")
        return found

    def files_with(self, word: str) -> list[str]:
        """Files of the data folder that have the word; NATS writes its own anew when it likes, see `mentions`."""
        data = self.stack.data
        files = [file for file in data.rglob("*") if file.is_file() and "nats" not in file.relative_to(data).parts]
        return [str(file.relative_to(data)) for file in files if word.encode() in file.read_bytes()]


@pytest.fixture
async def world(stack: Running) -> AsyncIterator[World]:
    urls = {}
    for tenant in MARKS:
        with running_site(stack.data) as site:
            urls[tenant] = (await add(site, tenant)).url
    connecting = Penstock.connect(stack.info.operator_url)
    async with await connecting as operator, Redis.from_url(stack.info.redis_url) as redis:
        yield World(stack, operator.bus, redis, urls)


async def test_export_then_erase(
    world: World, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tenant in MARKS:
        await world.fill(tenant, script)
    before, others = await world.held(TENANT), await world.held(OTHER)
    assert before == others
    empty = {name for name, count in before.items() if not count}
    assert empty <= {"submissions", "alarms", "results inside jobs", "index", "control"}, before
    assert world.files_with(MARKS[TENANT])
    with running_site(world.stack.data) as site:
        await remove(site, TENANT)

    arguments = [TENANT, "--data", str(world.stack.data), "--json"]
    assert await asyncio.to_thread(run, ["tenant", "export", *arguments, "-o", str(tmp_path / "out.tar.gz")]) == 0
    exported = {one["place"]: one["count"] for one in json.loads(capsys.readouterr().out)["exported"]}
    assert exported == {name: before[name] for name in exported}
    check_export(tmp_path)

    assert await asyncio.to_thread(run, ["tenant", "erase", *arguments, "--yes"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["complete"]
    removed = {one["place"]: one["count"] for one in report["removed"]}
    assert all(removed[name] >= count for name, count in before.items()), (before, removed)

    assert not any((await world.held(TENANT)).values())
    assert await world.mentions(MARKS[TENANT]) == []
    assert await world.mentions(f"{TENANT}/") == []
    assert [place for place in await world.mentions(TENANT) if ERASED not in place] == []
    assert world.files_with(MARKS[TENANT]) == []

    assert await world.held(OTHER) == others
    async with await Penstock.connect(world.urls[OTHER], OTHER) as penstock:
        answer = await penstock.ask(f"How must {MARKS[OTHER]} be stored?")
        assert answer.answer is not None
        assert answer.answer.quotes[0].document.startswith("quokkalite")
    await comes_back_empty(world)


def check_export(folder: Path) -> None:
    """The files have what the tenant put in, and nothing of the other."""
    with tarfile.open(folder / "out.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    files = [file for file in (folder / "out").rglob("*") if file.is_file()]
    texts = {file.relative_to(folder / "out").as_posix(): file.read_bytes() for file in files}
    mark = MARKS[TENANT].encode()
    for name in ("documents.jsonl", "results.jsonl", "redis-keys.jsonl"):
        assert mark in texts[name], name
        assert all(json.loads(line)["name"] for line in texts[name].splitlines())
    assert any(name.startswith("uploads/") and content.startswith(b"# " + mark) for name, content in texts.items())
    assert not any(MARKS[OTHER].encode() in content for content in texts.values())


async def comes_back_empty(world: World) -> None:
    """The tenant's name can be used again, and finds nothing of before."""
    with running_site(world.stack.data) as site:
        access = await add(site, TENANT)
        assert TENANT in {one.tenant for one in listed(site.known()) if not one.removed}
    async with await Penstock.connect(access.url, TENANT) as penstock:
        answer = await penstock.ask(f"How must {MARKS[TENANT]} be stored?", options=Options(model="extractive"))
        assert answer.answer is not None
        assert (answer.answer.mode, answer.answer.quotes) == ("refused", []), answer
        receipt = await penstock.submit(
            "ingest", [Input(document=DocumentRef(name="new.md", text="# New\n\nTea is hot."))]
        )
        assert (await penstock.report(receipt, timeout_s=60)).succeeded == 1
        found = await penstock.ask("What is hot?")
        assert found.answer is not None


def test_without_yes_nothing_happens(stack: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tenant", "erase", TENANT, "--data", str(stack.data)]) == 2
    assert "add --yes" in capsys.readouterr().err


def test_owners() -> None:
    assert owner("results.acme.j.0", {}) == "acme"
    assert owner("groups.acme/j/0/1.3", {}) == "acme"
    assert owner("$KV.parked.acme/j/window", {}) == "acme"
    assert owner("work.rerank.batch", {subjects.SHARD: "acme/j 0 1,2"}) == "acme"
    assert owner("work.route.batch", {subjects.MSG_ID: "acme/j.join"}) == "acme"
    assert owner("dead.rerank", {subjects.MSG_ID: "dead.WORK.5"}) == ""
    assert not any("*" in pattern.partition("acme")[0] for pattern in redis_patterns("acme"))
