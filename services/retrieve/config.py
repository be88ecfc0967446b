"""Settings of retrieve: `PENSTOCK_RETRIEVE_…`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from services.retrieve.domain.policy import Mode
from shared.answers import KEPT_S
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
    catch_up_s: float = Field(default=30.0, ge=0)  # how long a start may wait until every logged document is indexed
    cache: Mode = "exact"  # which kept answers jobs get that do not say
    cache_for: dict[str, Mode] = Field(
        default_factory=dict
    )  # the same by tenant, or by <tenant>/<pattern>: {"acme": "semantic"}
    cache_ttl_s: float = Field(default=24 * 3600.0, gt=0, le=KEPT_S)
    cache_similarity: float = Field(default=0.9, ge=0.5, le=1.0)  # least cosine of questions that share an answer
