"""What route does with tasks: render, decide, scatter, report."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from contracts.item import Item
from contracts.job import ItemFailure, JobReport
from contracts.steps import AnyStep, Decide, Render, Scatter
from contracts.task import Tally, Task
from services.route.domain import spreading
from services.route.domain.patterns import Patterns
from services.route.domain.prefix import Beginning, begun, prefix_key
from services.route.domain.prompts import Prompt, Prompts
from services.route.domain.render import Target, aimed, beginning
from services.route.domain.render import render as rendered
from services.route.domain.rollout import Change
from shared.errors import ItemError
from shared.models import Catalogue
from shared.outcome import Advance, Outcome
from shared.turns import TURNS

FAILURES_IN_REPORT = 1000


class Choose(Protocol):
    """Says which replica gets so many prompts that begin so, of a session perhaps; empty: whoever is free."""

    def __call__(self, beginning: Beginning, calls: int, session: str, /) -> str: ...


def anybody(beginning: Beginning, calls: int, session: str, /) -> str:
    """No replica is better than another."""
    return ""


Ready = Callable[[Change], Awaitable[bool]]
"""Says whether questions go out with a new version of a prompt yet."""


async def at_once(change: Change) -> bool:
    """A new version goes live as soon as it is there."""
    return True


async def render(
    task: Task,
    step: Render,
    prompts: Prompts,
    catalogue: Catalogue,
    choose: Choose = anybody,
    ready: Ready = at_once,
) -> Outcome:
    """Choose the model, render the prompt, and aim the next Generate at the model and the replica that knows it."""
    model = catalogue.get(step.model or task.options.model)
    prompt = await _version(task, step, prompts, model.name, ready)
    items = []
    for item in task.items:
        items.append(_render_one(item, prompt, task, model.context))
        await TURNS.give_way(task.lane)
    rest: list[AnyStep] = task.steps[1:]
    shared = _shared(items, prompt, model.name, task)
    target = Target(model.name)
    if shared is not None:
        target = Target(model.name, choose(shared, len(items), task.options.session), shared.key)
    return Advance(items, aimed(rest, prompt, target), skip=len(rest))


async def _version(task: Task, step: Render, prompts: Prompts, model: str, ready: Ready) -> Prompt:
    """The prompt that a name means: its newest version, or the one before while the newest is being warmed."""
    prompt, before = prompts.get(step.prompt), prompts.before(step.prompt)
    item = next((item for item in task.items if item.alive), None)
    if before is None or item is None:
        return prompt
    try:
        new, old = (beginning(item, version, task.options) for version in (prompt, before))
    except ItemError:
        return prompt  # rendering says what is missing
    to = begun(task.tenant, model, prompt, *new)
    change = Change(to, before=prefix_key(model, before, old).of(task.tenant))
    return prompt if await ready(change) else before


def _shared(items: Sequence[Item], prompt: Prompt, model: str, task: Task) -> Beginning | None:
    """How most prompts of a shard begin; None where it has no prompt."""
    found = Counter(beginning(item, prompt, task.options) for item in items if item.alive)
    return begun(task.tenant, model, prompt, *found.most_common(1)[0][0]) if found else None


def _render_one(item: Item, prompt: Prompt, task: Task, window: int) -> Item:
    try:
        return rendered(item, prompt, task.options, window)
    except ItemError as error:
        return replace(item, failure=error.failure("route"))


async def decide(task: Task, step: Decide, patterns: Patterns) -> Outcome:
    """Ask the pattern which steps come next."""
    return spreading.decide(task.items, patterns.get(task.pattern), task.options, patterns.experts)


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
        rungs=counts.rungs,
        user=task.user,
    )
