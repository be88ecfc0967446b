"""What came out of a run, counted from what is stored. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.item import Usage
from contracts.job import ItemResult, JobReport, ShardResult

_CENT = 1e-6  # dollars by which sums of many fractions may differ


@dataclass(frozen=True)
class Found:
    """What the stack holds of a job when it has ended. `messages`: how many by the last token of their subject."""

    report: JobReport | None
    shards: Sequence[ShardResult]
    messages: Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """`doubled` counts items that stand twice in the results, and whatever the report counts beyond them."""

    submitted: int
    arrived: int
    lost: int
    doubled: int
    failed: int
    faults: list[str]  # what is wrong, in words

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not self.faults


def verdict(submitted: int, found: Found) -> Verdict:
    """Lost: never arrived, or not counted. Doubled: arrived or counted more than once."""
    items = [item for shard in found.shards for item in shard.items]
    seen = Counter(item.n for item in items)
    arrived = sum(n in seen for n in range(submitted))
    faults = [f"item {n} arrived {times} times" for n, times in seen.items() if times > 1][:10]
    faults += [f"item {n} was never submitted" for n in seen if not 0 <= n < submitted][:10]
    faults += [f"{times} messages on …{name}" for name, times in found.messages.items() if times > 1][:10]
    if arrived < submitted:
        faults.append(f"{submitted - arrived} items did not arrive")
    faults += [f"item {item.n} failed without a reason" for item in items if item.failure and not item.failure.reason]
    faults += [f"item {item.n} has neither answer nor failure" for item in items if not (item.answer or item.failure)]
    counted = 0 if found.report is None else found.report.succeeded + found.report.failed
    doubled = sum(times - 1 for times in seen.values()) + max(0, counted - submitted)
    lost = submitted - arrived + (max(0, arrived - counted) if found.report is not None else 0)
    failed = sum(item.failure is not None for item in items)
    faults += ["the job has no report"] if found.report is None else _of_report(found.report, found.shards, items)
    return Verdict(submitted, arrived, lost, doubled, failed, faults)


def _of_report(report: JobReport, shards: Sequence[ShardResult], items: Sequence[ItemResult]) -> list[str]:
    """Where the report says other than the results that it sums up."""
    failed = [item for item in items if item.failure is not None]
    used = sum((item.usage for item in items), Usage())
    reasons = dict(Counter(item.failure.code for item in failed if item.failure is not None))
    pairs: list[tuple[str, object, object]] = [
        ("state", report.state, "done"),
        ("size", report.size, len(items)),
        ("succeeded", report.succeeded, len(items) - len(failed)),
        ("failed", report.failed, len(failed)),
        ("shards", report.shards, len(shards)),
        ("reasons", report.reasons, reasons),
        ("failures", len(report.failures), min(len(failed), 1000)),
        ("prompt_tokens", report.usage.prompt_tokens, used.prompt_tokens),
        ("completion_tokens", report.usage.completion_tokens, used.completion_tokens),
        ("calls", report.usage.calls, used.calls),
    ]
    wrong = [f"report: {name} is {said}, the results say {is_}" for name, said, is_ in pairs if said != is_]
    if abs(report.usage.cost_usd - used.cost_usd) > _CENT:
        wrong.append(f"report: cost is {report.usage.cost_usd}, the results say {used.cost_usd}")
    wrong += [f"report: item {failure.n} failed without a reason" for failure in report.failures if not failure.reason]
    return wrong
