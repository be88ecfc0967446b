"""Retrieval sets in BEIR's form: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv`."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from client.errors import UsageError

T = TypeVar("T")


class CorpusRow(Struct, frozen=True):
    """A passage; `document` names the document that it belongs to, where passages share one."""

    id: str = field(name="_id")
    text: str
    document: str = ""


class QueryRow(Struct, frozen=True):
    """A query; `answers` are the strings of which an answer has to hold one, where the set knows them."""

    id: str = field(name="_id")
    text: str
    answers: list[str] = field(default_factory=list)


Qrels = dict[str, dict[str, int]]
"""Grades by query and passage; only those above 0 count as relevant."""


def read_corpus(path: Path) -> list[CorpusRow]:
    """All passages in their order. Raises UsageError, with file, line and field, for what is not one."""
    return list(_rows(path, CorpusRow, "a passage"))


def read_queries(path: Path, judged: Qrels, limit: int | None = None) -> list[QueryRow]:
    """The queries that have a relevant passage; of these `limit`, drawn from the sorted ids with the seed 7."""
    queries = {row.id: row for row in _rows(path, QueryRow, "a query") if row.id in judged}
    if not queries:
        raise UsageError(f"{path}: none of its queries has a relevant passage in the qrels file")
    ids = sorted(queries) if limit is None else random.Random(7).sample(sorted(queries), min(limit, len(queries)))
    return [queries[name] for name in ids]


def read_queries_with_answers(path: Path) -> list[QueryRow]:
    """The queries whose answers the set knows. Raises UsageError where there are none."""
    found = [row for row in _rows(path, QueryRow, "a query") if row.answers]
    if not found:
        raise UsageError(f"{path}: none of its queries has answers")
    return found


def read_qrels(path: Path) -> Qrels:
    """The relevant passages of each query, with their grades."""
    judged: Qrels = {}
    for number, line in enumerate(_lines(path), 1):
        fields = line.split("\t")
        if number == 1 and fields[-1] == "score":
            continue
        if len(fields) != 3 or not fields[2].lstrip("-").isdigit():
            raise UsageError(
                f"{path}, line {number}: expected query id, passage id and a whole number, separated by tabs,"
                f" got {line[:80]!r}"
            )
        query, passage, grade = fields
        if int(grade) > 0:
            judged.setdefault(query, {})[passage] = int(grade)
    if not judged:
        raise UsageError(f"{path}: expected at least one line with a grade above 0")
    return judged


def _rows(path: Path, kind: type[T], name: str) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), 1):
        try:
            row = decoder.decode(line)
        except msgspec.ValidationError as error:
            raise UsageError(f"{path}, line {number}: not {name}: {error}") from None
        except msgspec.DecodeError as error:
            raise UsageError(f"{path}, line {number}: expected a JSON object: {error}") from None
        own: str = getattr(row, "id")  # noqa: B009  both kinds of rows have one
        if own in seen:
            raise UsageError(f"{path}, line {number}: _id {own!r} was there before; expected each once")
        seen.add(own)
        yield row
    if not seen:
        raise UsageError(f"{path}: expected one JSON object a line, the file is empty")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
