"""Settings of ingest: `PENSTOCK_INGEST_…`."""

from typing import ClassVar

from shared.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    """How much is read at once, and how much of one document."""

    service: ClassVar[str] = "ingest"

    interactive_slots: int = 2
    batch_slots: int = 2
    parsers: int = 2  # child processes that read documents at the same time
    parser_idle_s: float = 20.0  # a child without work ends after this long
    parser_seconds: int = 120  # for one document
    parser_memory_mb: int = 1536  # address space of a child
    document_mb: int = 32
    expanded_mb: int = 256  # what a DOCX may expand to
