"""What the extractive engine says where nothing is asked: how each passage begins."""

from collections.abc import Sequence

from contracts.item import Completion, Passage, Quote, Usage
from shared.text import sentences

_MOST = 3  # sentences
_LEAST = 40  # characters: a shorter one is a heading


def lead(passages: Sequence[Passage], model: str) -> Completion | None:
    """The first real sentence of each of the first passages; None where there is none."""
    found = [quote for passage in passages if (quote := _first(passage)) is not None][:_MOST]
    if not found:
        return None
    text = " ".join(quote.text for quote in found)
    return Completion(text=text, model=model, mode="extractive", quotes=found, usage=Usage(calls=1))


def _first(passage: Passage) -> Quote | None:
    text = next((sentence for sentence in sentences(passage.text) if len(sentence) >= _LEAST), passage.text.strip())
    if not text:
        return None
    return passage.quote(text)
