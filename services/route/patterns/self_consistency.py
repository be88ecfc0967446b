"""Draw several answers and take a vote: the same question gets the same answer, although sampling is random."""

from contracts.job import Options
from contracts.steps import AnyStep, Judge, Render, Scatter
from services.route.domain.pattern import Pattern, generated, in_session, samples

SAMPLES = 7
TEMPERATURE = 0.7


def opening(options: Options) -> list[AnyStep]:
    sample: list[AnyStep] = [
        Render(options.prompt or "direct"),
        generated(options, temperature=TEMPERATURE if options.temperature is None else options.temperature),
    ]
    steps: list[AnyStep] = [
        Scatter(slip=sample, over="samples", n=samples(options, SAMPLES)),
        Judge("vote", key=options.vote),
    ]
    return in_session(options, steps)


PATTERN = Pattern(name="self-consistency", title="Several answers and an element-wise vote", open=opening)
