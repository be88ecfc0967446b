"""What route does with tasks: render, decide, scatter, report."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.item import Item
from contracts.job import ItemFailure, JobReport
from contracts.steps import AnyStep, Decide, Render, Scatter
from contracts.task import Tally, Task
from services.route.domain import spreading
from services.route.domain.patterns import Patterns
from services.route.domain.prefix import prefix_key
from services.route.domain.prompts import Prompt, Prompts
from services.route.domain.render import Target, aimed
from services.route.domain.render import render as rendered
from shared.errors import ItemError
from shared.models import Catalogue
from shared.outcome import Advance, Outcome
from shared.turns import TURNS

FAILURES_IN_REPORT = 1000


class Choose(Protocol):
    """Says which replica of a model gets so many prompts of this prefix key; empty: whoever is free."""

    def __call__(self, model: str, key: str, calls: int, /) -> str: ...


def anybody(model: str, key: str, calls: int, /) -> str:
    """No replica is better than another."""
    return ""


async def render(task: Task, step: Render, prompts: Prompts, catalogue: Catalogue, choose: Choose = anybody) -> Outcome:
    """Choose the model, render the prompt, and aim the next Generate at the model and the replica that knows it."""
    model = catalogue.get(step.model or task.options.model)
    prompt = prompts.get(step.prompt)
    items = []
    for item in task.items:
        items.append(_render_one(item, prompt, task, model.context))
        await TURNS.give_way(task.lane)
    rest: list[AnyStep] = task.steps[1:]
    key = _shared_key(items, prompt, model.name, task.tenant)
    target = Target(model.name, choose(model.name, key, len(items)) if key else "", key)
    return Advance(items, aimed(rest, prompt, target), skip=len(rest))


def _shared_key(items: Sequence[Item], prompt: Prompt, model: str, tenant: str) -> str:
    """The prefix key of a shard: that of most of its prompts."""
    keys = Counter(prefix_key(model, prompt, item.messages).of(tenant) for item in items if item.alive)
    return keys.most_common(1)[0][0] if keys else ""


def _render_one(item: Item, prompt: Prompt, task: Task, window: int) -> Item:
    try:
        return rendered(item, prompt, task.options, window)
    except ItemError as error:
        return replace(item, failure=error.failure("route"))


async def decide(task: Task, step: Decide, patterns: Patterns) -> Outcome:
    """Ask the pattern which steps come next."""
    return spreading.decide(task.items, patterns.get(task.pattern), task.options)


async def scatter(task: Task, step: Scatter, shard_size: int) -> Outcome:
    """Spread the items into children."""
    return spreading.scatter(task.items, step, shard_size)


def report(
    task: Task, size: int, shards: int, counts: Tally, failures: Sequence[ItemFailure], now: float, cancelled: bool
) -> JobReport:
    """How a job ended. `counts` are the sums of its shards."""
    expired = task.deadline is not None and now >= task.deadline and "deadline_exceeded" in counts.reasons
    return JobReport(
        job=task.job,
        tenant=task.tenant,
        pattern=task.pattern,
        state="cancelled" if cancelled else "expired" if expired else "done",
        size=size,
        succeeded=counts.succeeded,
        failed=counts.failed,
        seconds=round(max(0.0, now - task.submitted_at), 3),
        usage=counts.usage,
        reasons=counts.reasons,
        failures=sorted(failures, key=lambda failure: failure.n)[:FAILURES_IN_REPORT],
        shards=shards,
        submitted_at=task.submitted_at,
    )
