"""Walk the whole way of a job without work: for benches."""

from contracts.job import Options
from contracts.steps import AnyStep, Generate
from services.route.domain.pattern import Pattern, nothing_needed


def opening(options: Options) -> list[AnyStep]:
    return [Generate(model="noop", stream=bool(options.stream))]


PATTERN = Pattern(name="noop", title="Does nothing, for benches", open=opening, needs=nothing_needed)
