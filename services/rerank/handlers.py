"""The step that rerank takes."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.item import Item, Passage
from contracts.steps import Rerank


class Scorer(Protocol):
    """Says how well passages answer a question."""

    async def score(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """One number a passage, in their order; higher is better. Comparable within one call only."""


async def rerank(items: Sequence[Item], step: Rerank, scorer: Scorer) -> list[Item]:
    """Order each item's passages by their new score, and keep the best."""
    return list(await asyncio.gather(*(_reranked(item, step, scorer) for item in items)))


async def _reranked(item: Item, step: Rerank, scorer: Scorer) -> Item:
    scores = await scorer.score(item.question, item.passages) if item.passages else []
    scored = [replace(passage, score=score) for passage, score in zip(item.passages, scores, strict=True)]
    return replace(item, passages=sorted(scored, key=lambda passage: -passage.score)[: step.top])
