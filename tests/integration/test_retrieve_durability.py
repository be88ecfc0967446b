"""kill -9 while documents are indexed: nothing that was acknowledged is lost, and the rest can be indexed again."""

import subprocess
import sys
from pathlib import Path

import pytest
from libraries import ask, document, open_index

from contracts.documents import Document
from services.retrieve.adapters.edge import IndexInUse

INDEX = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "tests")
from libraries import open_index
from test_retrieve_durability import numbered

async def main() -> None:
    async with open_index(Path(sys.argv[1])) as search:
        for n in range(10_000):
            await search.indexer.put("acme", numbered(n))
            print(n, flush=True)

asyncio.run(main())
"""
ROOT = Path(__file__).parents[2]
PASSAGES = 3


def numbered(n: int, revision: str = "1") -> Document:
    texts = [f"passage {place} of number{n} {revision}" for place in range(PASSAGES)]
    return document(f"d{n}", *texts, revision=revision)


def index_until(folder: Path, last: int) -> int:
    """Index in a process of its own, kill it once `last` is acknowledged; returns what was acknowledged in the end."""
    command = [sys.executable, "-c", INDEX, str(folder)]
    paths = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'integration'}"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": paths})
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == last:
            process.kill()
    process.wait(10)
    return acknowledged


async def test_what_was_acknowledged_survives_and_the_rest_can_be_indexed_again(tmp_path: Path) -> None:
    for last in (3, 20, 41):  # the second and third process begin with the index of a killed one
        acknowledged = index_until(tmp_path, last)
        assert acknowledged >= last
        async with open_index(tmp_path) as search:
            assert len(search.statistics.inventory()) in (acknowledged + 1, acknowledged + 2)
            for n in range(acknowledged + 1):
                found = await ask(search, f"number{n}", top=PASSAGES)
                assert {passage.document for passage in found} == {f"d{n}"}
                assert len(found) == PASSAGES
    async with open_index(tmp_path) as search:
        changed = await search.indexer.put_all("acme", [numbered(n) for n in range(60)])
        assert changed.index(True) > acknowledged
        assert changed[-1]
        assert {p.document for p in await ask(search, "number59", top=PASSAGES)} == {"d59"}


async def test_a_document_that_was_half_replaced_answers_as_before_and_is_replaced_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_index(tmp_path) as search:
        await search.indexer.put_all("acme", [numbered(1), numbered(2)])
        monkeypatch.setattr(search.statistics, "replace", _dies)
        with pytest.raises(_PowerCut):
            await search.indexer.put("acme", numbered(1, "2"))
    async with open_index(tmp_path) as search:
        assert {p.text for p in await ask(search, "number1", top=PASSAGES)} == {c.text for c in numbered(1).chunks}
        assert await search.indexer.put("acme", numbered(1, "2"))
        assert {p.text for p in await ask(search, "number1", top=PASSAGES)} == {c.text for c in numbered(1, "2").chunks}


class _PowerCut(Exception):
    """The process ends here."""


def _dies(*_: object) -> None:
    raise _PowerCut


async def test_a_second_owner_is_told_so(tmp_path: Path) -> None:
    async with open_index(tmp_path):
        with pytest.raises(IndexInUse, match="one process at a time"):
            async with open_index(tmp_path):
                pass
