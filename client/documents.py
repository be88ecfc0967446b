"""Finds documents in files and folders, stores them, and reads what became of them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from client.client import Penstock
from client.errors import UsageError
from contracts.item import DocumentRef, Input
from contracts.job import ItemResult, JobReport, Options

SUFFIXES = frozenset({".pdf", ".html", ".htm", ".xhtml", ".md", ".markdown", ".docx", ".txt", ".text", ".csv", ".tsv"})
"""What is taken from a folder. A file that is named is sent whatever it is."""

AT_ONCE = 4


@dataclass(frozen=True)
class Found:
    """A file, and the name that it goes by: relative to the folder that was given."""

    path: Path
    name: str


def find_documents(paths: Sequence[Path]) -> list[Found]:
    """All documents of files and folders, in order. Raises UsageError for what is missing, and for nothing at all."""
    found: list[Found] = []
    for path in paths:
        if path.is_dir():
            found += [
                Found(file, file.relative_to(path).as_posix())
                for file in sorted(path.rglob("*"))
                if file.is_file() and file.suffix.lower() in SUFFIXES and not _hidden(file.relative_to(path))
            ]
        elif path.is_file():
            found.append(Found(path, path.name))
        else:
            raise UsageError(f"{path}: no such file or folder")
    if not found:
        raise UsageError(f"no documents in {', '.join(map(str, paths))}; expected {', '.join(sorted(SUFFIXES))}")
    names: dict[str, Path] = {}
    for document in found:
        if (other := names.setdefault(document.name, document.path)) != document.path:
            raise UsageError(f"{document.path} and {other} have the same name, so one would replace the other")
    return found


async def ingest(
    penstock: Penstock,
    documents: Sequence[Found],
    on_upload: Callable[[], None],
    on_results: Callable[[list[ItemResult]], None],
) -> JobReport:
    """Store the files, submit one job, and hand out the results as they come."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def store(document: Found) -> Input:
        async with slots:
            claim = await penstock.upload(await asyncio.to_thread(document.path.read_bytes))
            on_upload()
        return Input(id=document.name, document=DocumentRef(name=document.name, claim=claim))

    items = await asyncio.gather(*map(store, documents))
    receipt = await penstock.submit("ingest", items, Options(), lane="batch")
    async with aclosing(penstock.results(receipt)) as shards:
        async for shard in shards:
            on_results(shard.items)
    return await penstock.report(receipt)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
