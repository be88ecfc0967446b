"""What a reader is asked and what it answers. It travels to the parser child and back as msgpack."""

from msgspec import Struct, field

from contracts.documents import Chunk
from contracts.item import FailureCode, Part


class Request(Struct, frozen=True, omit_defaults=True):
    """Read a document; `tokens` above 0 asks for parts of that size, 0 for chunks of the document with that id."""

    name: str
    content: bytes
    is_text: bool = False  # the content was given as text: no bytes of a file
    document: str = ""
    tokens: int = 0


class Result(Struct, frozen=True, omit_defaults=True):
    """What was read; `reason` is set where it could not be."""

    title: str = ""
    pages: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    code: FailureCode | None = None
    reason: str = ""
