"""Settings of retrieve: `PENSTOCK_RETRIEVE_…`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.settings import ServiceSettings

VectorsIn = Literal["edge", "qdrant"]
WordsIn = Literal["edge", "qdrant", "opensearch"]


class RetrieveSettings(ServiceSettings):
    """Which engines, where they are, and how many threads the encoder may use."""

    service: ClassVar[str] = "retrieve"

    vectors: VectorsIn = "edge"
    words: WordsIn = "edge"
    qdrant_url: str = "http://127.0.0.1:6333"
    qdrant_key: str = ""
    qdrant_quantization: Literal["none", "int8", "binary"] = "none"  # both hold for collections made from now on
    qdrant_on_disk: bool = False
    opensearch_url: str = "http://127.0.0.1:9200"
    opensearch_roll_at: Annotated[str, Field(pattern=r"^[1-9][0-9]*(b|kb|mb|gb|tb)$")] = "30gb"
    engine_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    index_name: str = "penstock"  # alias in Qdrant and OpenSearch
    encoder_threads: int = 2
