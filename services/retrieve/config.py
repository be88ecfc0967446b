"""Settings of retrieve: `PENSTOCK_RETRIEVE_…`."""

from typing import ClassVar, Literal

from shared.settings import ServiceSettings


class RetrieveSettings(ServiceSettings):
    """Which engines, where they are, and how many threads the encoder may use."""

    service: ClassVar[str] = "retrieve"

    vectors: Literal["edge", "qdrant"] = "edge"
    words: Literal["edge", "qdrant", "opensearch"] = "edge"
    qdrant_url: str = "http://127.0.0.1:6333"
    qdrant_key: str = ""
    opensearch_url: str = "http://127.0.0.1:9200"
    index_name: str = "penstock"  # collection of Qdrant, index of OpenSearch
    encoder_threads: int = 2
