"""Pure: from the items of a finished task to what users read and groups count."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from contracts.item import Failure, FailureCode, Item, Usage
from contracts.job import ItemResult, ShardResult
from contracts.task import Tally, Task
from shared.rungs import below_primary


def item_result(item: Item, job: str = "") -> ItemResult:
    return ItemResult(
        n=item.n,
        id=item.input.id,
        question=item.input.question,
        answer=item.answer if item.alive else None,
        failure=item.failure,
        verdict=item.verdict,
        document=item.document if item.alive else None,
        usage=item.usage,
        job=job,
        session=item.session if item.alive else None,
    )


def shard_result(task: Task) -> ShardResult:
    return ShardResult(job=task.job, shard=task.index, items=[item_result(item) for item in task.items])


def tally(items: Sequence[Item], spent_s: float = 0.0) -> Tally:
    """What these items count; `spent_s` is how long services have worked on them."""
    reasons: Counter[str] = Counter(item.failure.code for item in items if item.failure is not None)
    failed = reasons.total()
    rungs = below_primary(item.answer for item in items if item.alive and item.answer is not None)
    return Tally(len(items) - failed, failed, total(items), dict(reasons), round(spent_s * 1000), rungs)


def summed(tallies: Iterable[Tally]) -> Tally:
    """What several shards count together."""
    usage, reasons, rungs, spent_ms = Usage(), Counter[str](), Counter[str](), 0
    succeeded = failed = 0
    for one in tallies:
        succeeded, failed, spent_ms = succeeded + one.succeeded, failed + one.failed, spent_ms + one.spent_ms
        usage, reasons, rungs = usage + one.usage, reasons + Counter(one.reasons), rungs + Counter(one.rungs)
    return Tally(succeeded, failed, usage, dict(reasons), spent_ms, dict(rungs))


def total(items: Sequence[Item]) -> Usage:
    usage = Usage()
    for item in items:
        if item.usage.calls or item.usage.prompt_tokens or item.usage.completion_tokens:
            usage = usage + item.usage
    return usage


def fail(items: Sequence[Item], code: FailureCode, reason: str, service: str) -> list[Item]:
    """The living ones fail for this reason; those that failed before keep theirs."""
    failure = Failure(code=code, reason=reason, service=service)
    return [msgspec.structs.replace(item, failure=failure) if item.at_work else item for item in items]


def fail_expired(items: Sequence[Item], now: float, service: str) -> list[Item]:
    """Items past their own deadline fail."""
    if all(item.deadline is None or now < item.deadline for item in items):
        return list(items)
    failure = Failure("deadline_exceeded", "deadline exceeded: no answer within the item's deadline_s", service)
    late = [item.at_work and item.deadline is not None and now >= item.deadline for item in items]
    return [
        msgspec.structs.replace(item, failure=failure) if is_late else item
        for item, is_late in zip(items, late, strict=True)
    ]


def merge_back(items: Sequence[Item], living: Sequence[Item]) -> list[Item]:
    """Put the handled items back in the places of the living ones."""
    handled = iter(living)
    return [next(handled) if item.at_work else item for item in items]
