"""Send each question to the expert that it belongs to; only that one runs. The job's own model takes the rest."""

from collections.abc import Sequence

from contracts.item import Item
from contracts.job import Options
from contracts.steps import AnyStep, Decide, Render
from services.route.domain.gate import Expert, gate
from services.route.domain.pattern import Pattern, generated, in_session


def opening(options: Options) -> list[AnyStep]:
    return in_session(options, [Decide()])


def ask_the_expert(item: Item, options: Options, experts: Sequence[Expert]) -> list[AnyStep]:
    """Items of one shard may go to different experts, at the same time."""
    prompt = options.prompt or "direct"
    expert = gate(f"{item.input.question}\n{item.input.context}", experts)
    return [Render(prompt, model=expert or options.model), generated(options, stream=bool(options.stream))]


PATTERN = Pattern(
    name="mixture-of-experts",
    title="Each question to the expert model or adapter that it belongs to",
    open=opening,
    among=ask_the_expert,
    turns=True,
)
