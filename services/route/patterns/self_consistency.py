"""Draw several answers and take a vote: the same question gets the same answer, although sampling is random."""

from contracts.job import Options
from contracts.steps import AnyStep, Generate, Judge, Render, Scatter
from services.route.domain.pattern import Pattern, in_session, samples

SAMPLES = 7
TEMPERATURE = 0.7


def opening(options: Options) -> list[AnyStep]:
    sample: list[AnyStep] = [
        Render(options.prompt or "direct"),
        Generate(
            temperature=TEMPERATURE if options.temperature is None else options.temperature,
            max_tokens=options.max_tokens,
            schema=options.schema,
        ),
    ]
    steps: list[AnyStep] = [
        Scatter(slip=sample, over="samples", n=samples(options, SAMPLES)),
        Judge("vote", key=options.vote),
    ]
    return in_session(options, steps)


PATTERN = Pattern(name="self-consistency", title="Several answers and an element-wise vote", open=opening)
