"""Settings of rerank: `PENSTOCK_RERANK_…`."""

from pathlib import Path
from typing import ClassVar, Literal

from shared.settings import ServiceSettings


class RerankSettings(ServiceSettings):
    """What scores the passages."""

    service: ClassVar[str] = "rerank"

    scorer: Literal["evidence", "cross-encoder"] = "evidence"
    model: Path | None = None  # for the cross-encoder: a folder with model.onnx and tokenizer.json
    max_tokens: int = 512  # of question and passage together
    threads: int = 2
