"""Under what an answer is kept, and what it rests on."""

import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from contracts.item import Input, Passage


def scope_of(shape: str, given: Input) -> str:
    """Hash of all but the question: `shape` stands for slip, prompt and model, the rest is what the item brings."""
    about = [shape, sorted(given.filters.items()), given.context, sorted(given.variables.items()), given.document]
    return _hash(msgspec.json.encode(about))


def key_of(scope: str, question: str) -> str:
    """Hash of scope and question; white space and the last mark do not count, letters as they are do."""
    plain = " ".join(unicodedata.normalize("NFC", question).split()).rstrip(" ?.!")
    return _hash(f"{scope}\0{plain}".encode("utf-8", "surrogatepass"))


def found_of(passages: Sequence[Passage]) -> str:
    """Hash of which passages were found, with their words and where they stand, since answers say that; in what order
    does not count."""
    return _hash(msgspec.json.encode(sorted(_shown(passage) for passage in passages)))


def _shown(one: Passage) -> tuple[str | int, ...]:
    """What a model sees of a passage, or a quote says of its place."""
    return one.chunk, one.title, one.section, one.clause, one.page, one.page_end, one.text


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
