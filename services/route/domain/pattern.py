"""What a pattern is: a few lines that write a slip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from contracts.item import Input, Item
from contracts.job import Options
from contracts.steps import AnyStep, Generate, Recall, Remember
from services.route.domain.gate import Expert
from services.route.domain.turns import check_turns

QUESTION_MAX = 32 * 1024

Needs = Callable[[Input], str | None]
"""What is wrong with an input, as `field: expected …, got …`; None where nothing is."""


def question_needed(given: Input) -> str | None:
    """A question of 1 to 32768 characters."""
    length = len(given.question)
    if 1 <= length <= QUESTION_MAX and given.question.strip():
        return None
    got = "nothing but white space" if 0 < length <= QUESTION_MAX else str(length)
    return f"question: expected 1 to {QUESTION_MAX} characters, got {got}"


def nothing_needed(given: Input) -> str | None:
    """Any input will do."""
    return None


@dataclass(frozen=True)
class Pattern:
    """A design pattern of LLM work. All three functions are pure.

    `open` writes the slip that every item of a job sets out with; raises Rejected where an option has no sense here.
    At a `Decide`, `amend` may change what the item remembers, then `decide` writes the steps to take next, before the
    rest of the slip; none of them: the slip goes on. `among` is `decide` for a pattern that chooses among experts.
    """

    name: str
    title: str
    open: Callable[[Options], list[AnyStep]]
    needs: Needs = question_needed
    decide: Callable[[Item, Options], list[AnyStep]] | None = None
    among: Callable[[Item, Options, Sequence[Expert]], list[AnyStep]] | None = None
    amend: Callable[[Item, Options], Item] | None = None
    turns: bool = False  # whether a question may come with the calls of tools that it has led to

    def ways(self, item: Item, options: Options, experts: Sequence[Expert]) -> list[AnyStep]:
        """The steps to take next."""
        if self.among is not None:
            return self.among(item, options, experts)
        return self.decide(item, options) if self.decide is not None else []

    def check(self, given: Input) -> str | None:
        """What is wrong with an input; put `items[i].` in front of it. None where nothing is."""
        if given.turns and not self.turns:
            return f"turns: the pattern {self.name!r} takes none"
        return self.needs(given) or check_turns(given.turns)


def in_session(options: Options, steps: Sequence[AnyStep], first: Sequence[AnyStep] = ()) -> list[AnyStep]:
    """Recall (and `first`) before the steps and Remember after them, where the job belongs to a session."""
    return [Recall(), *first, *steps, Remember()] if options.session else list(steps)


def generated(options: Options, **more: Any) -> Generate:
    """A Generate as the job's options want it; `more` are fields that the pattern sets itself."""
    given = Generate(
        temperature=options.temperature or 0.0,
        max_tokens=options.max_tokens,
        stop=options.stop,
        seed=options.seed,
        logprobs=options.logprobs,
        tools=options.tools,
        tool_choice=options.tool_choice,
        schema=options.schema,
    )
    return replace(given, **more)


def samples(options: Options, usual: int) -> int:
    """How many samples to draw."""
    return options.n or usual
