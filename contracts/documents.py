"""Documents and chunks, as ingest logs them and retrieve indexes them. These messages are msgpack."""

from msgspec import Struct, field


class Chunk(Struct, frozen=True, omit_defaults=True):
    """A passage of a document: at most one section, 800–1,200 tokens, overlapping its predecessor by 150."""

    id: str  # <document>#<ordinal>
    ordinal: int
    text: str
    section: str = ""  # the headings above it, joined with " › "
    clause: str = ""
    page: int = 0
    page_end: int = 0
    tokens: int = 0


class Document(Struct, frozen=True, omit_defaults=True):
    """One revision of a document: `documents.<tenant>.<doc>`; the last one counts, an index is rebuilt by replaying."""

    id: str
    tenant: str
    title: str
    source: str  # file name
    revision: str
    chunks: list[Chunk]  # empty: the document was removed
    pages: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    at: float = 0.0
    v: int = 1
