"""The parser children: what crashes, hangs or takes too much memory fails one document, and nothing stays behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
from files import LIMITS
from msgspec.structs import replace

from services.ingest.adapters.parser import Parser
from services.ingest.domain.request import Request
from shared.errors import ItemError

SLOW = Request("slow.md", b"- a *b* [c](d)\n" * 400_000)  # half a minute of parsing
QUICK = Request("quick.md", b"## 4.2 Leave\n\nFive days.\n", document="quick")


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    parser = Parser(LIMITS, most=1, idle_s=60)
    yield parser
    await parser.close()
    assert children() == []


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_parser(child)]


def _is_parser(process: psutil.Process) -> bool:
    try:
        return "services.ingest.adapters.child" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  it comes from another process
            await asyncio.sleep(0.02)


async def test_a_child_reads_one_document_after_the_other(parser: Parser) -> None:
    assert children() == []  # started when there is work
    first = await parser.read(QUICK)
    [child] = children()
    await parser.read(QUICK)
    assert children() == [child]
    assert [(chunk.id, chunk.clause) for chunk in first.chunks] == [("quick#0", "4.2")]


async def test_parts_instead_of_chunks(parser: Parser) -> None:
    result = await parser.read(Request("long.txt", b"The plan covers it. " * 200, tokens=100))
    assert len(result.parts) > 5
    assert not result.chunks


async def test_what_is_wrong_with_a_document_comes_back_as_its_error(parser: Parser) -> None:
    with pytest.raises(ItemError, match=r"a\.txt: not valid UTF-8 at byte 0") as caught:
        await parser.read(Request("a.txt", b"\xff"))
    assert caught.value.code == "unreadable"
    assert (await parser.read(QUICK)).chunks


async def test_a_crash_fails_its_document_only(parser: Parser) -> None:
    reading = asyncio.create_task(parser.read(SLOW))
    await until(lambda: bool(children()))
    os.kill(children()[0].pid, signal.SIGSEGV)
    with pytest.raises(ItemError, match=r"slow\.md: the parser broke down over it \(exit -11\)"):
        await reading
    assert (await parser.read(QUICK)).chunks


async def test_a_document_that_takes_too_long_is_given_up_and_its_child_ended() -> None:
    parser = Parser(replace(LIMITS, seconds=2), most=1, idle_s=60)
    with pytest.raises(ItemError, match=r"slow\.md: reading it took longer than 2 s"):
        await parser.read(SLOW)
    assert children() == []


async def test_a_child_whose_parent_forgot_it_ends_itself() -> None:
    parser = Parser(replace(LIMITS, seconds=1), most=1, idle_s=60)
    reading = asyncio.create_task(parser.read(SLOW))
    await until(lambda: bool(children()))
    [child] = children()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_a_document_that_takes_too_much_memory_is_too_large() -> None:
    parser = Parser(replace(LIMITS, memory=300 << 20), most=1, idle_s=60)
    try:
        with pytest.raises(ItemError, match=r"slow\.md: reading it takes more memory than is allowed") as caught:
            await parser.read(SLOW)
        assert caught.value.code == "too_large"
        assert (await parser.read(QUICK)).chunks
    finally:
        await parser.close()


async def test_a_child_without_work_ends() -> None:
    parser = Parser(LIMITS, most=1, idle_s=0.05)
    await parser.read(QUICK)
    await until(lambda: children() == [])
    assert (await parser.read(QUICK)).chunks
    await parser.close()


async def test_at_most_as_many_children_as_allowed() -> None:
    parser = Parser(LIMITS, most=2, idle_s=60)
    try:
        await asyncio.gather(*(parser.read(QUICK) for _ in range(6)))
        assert len(children()) <= 2
    finally:
        await parser.close()
