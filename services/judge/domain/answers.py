"""What is judged: the item's answer, or its first completion where there is none yet."""

from contracts.item import Answer, Item


def answer_of(item: Item) -> Answer | None:
    """The answer to judge; None where the item has neither answer nor completion."""
    if item.answer is not None or not item.completions:
        return item.answer
    completion = item.completions[0]
    return Answer(
        text=completion.text,
        mode=completion.mode,
        quotes=completion.quotes,
        data=completion.data,
        model=completion.model,
        prompt=item.prompt,
        finish_reason=completion.finish_reason,
        rung=completion.rung,
        why=completion.why,
        escalate=completion.escalate,
    )
