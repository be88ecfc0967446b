"""What the service and its parser child agree on."""

from msgspec import Struct

OUT_OF_MEMORY = 12
"""Exit code of a child that needed more memory than it may have: it has none left to say so."""

LENGTH_BYTES = 8
"""Every message between them is msgpack with its length before it."""


class Limits(Struct, frozen=True):
    """How much of a document is read. Bytes, and seconds."""

    document: int = 32 << 20
    expanded: int = 256 << 20  # what a DOCX may expand to
    memory: int = 1536 << 20  # address space of the process that reads
    seconds: int = 120
