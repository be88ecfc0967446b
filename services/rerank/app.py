"""Rerank as a process: which scorer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.steps import Rerank
from services.rerank.config import RerankSettings
from services.rerank.domain import EvidenceScorer
from services.rerank.handlers import Scorer, rerank
from shared.service import Runtime, main, service
from shared.settings import SettingsError


@asynccontextmanager
async def build(runtime: Runtime[RerankSettings]) -> AsyncIterator[None]:
    """Open the scorer and take the step."""
    async with open_scorer(runtime.settings) as scorer:
        runtime.on(Rerank, lambda task, step: rerank(task.items, step, scorer))
        yield


@asynccontextmanager
async def open_scorer(settings: RerankSettings) -> AsyncIterator[Scorer]:
    """The scorer that the settings name; raises SettingsError where its model is not there."""
    if settings.scorer == "evidence":
        yield EvidenceScorer()
        return
    if settings.model is None:
        raise SettingsError("PENSTOCK_RERANK_MODEL: expected a folder with model.onnx and tokenizer.json, got nothing")
    from services.rerank.adapters.cross_encoder import CrossEncoder  # onnxruntime is 60 MB that evidence does not need

    scorer = CrossEncoder(settings.model, settings.max_tokens, settings.threads)
    yield scorer
    await scorer.close()


app = service(RerankSettings, build)

if __name__ == "__main__":
    main(app)
