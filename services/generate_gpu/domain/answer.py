"""From completions to the item's answer."""

from collections.abc import Sequence

from msgspec.structs import replace

from contracts.item import Answer, Completion, Item, Usage
from services.generate_gpu.domain.citations import quotes
from services.generate_gpu.domain.completion import sources
from shared.rungs import lowest


def answered(item: Item, completions: Sequence[Completion], n: int) -> Item:
    """The item with its completions, and with an answer where one was asked for; of several, judge makes the answer."""
    return replace(item, completions=list(completions), answer=_answer(item, completions[0]) if n == 1 else None)


def charged(item: Item, usage: Usage) -> Item:
    """The item with this usage added."""
    return replace(item, usage=item.usage + usage)


def _answer(item: Item, completion: Completion) -> Answer:
    rung, why = lowest([completion, *item.parts])  # no better than what it was made of
    generated = completion.mode == "generated"
    return Answer(
        text=completion.text,
        mode=completion.mode,
        quotes=quotes(completion.text, sources(item)) if generated else completion.quotes,
        data=completion.data,
        model=completion.model,
        prompt=item.prompt,
        finish_reason=completion.finish_reason,
        rung=rung,
        why=why,
        escalate=completion.escalate,
        tool_calls=completion.tool_calls,
        logprobs=completion.logprobs,
    )
