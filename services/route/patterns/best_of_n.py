"""Draw several variants and keep the one that scores best by a rubric."""

from contracts.job import Options
from contracts.steps import AnyStep, Judge, Render
from services.route.domain.pattern import Pattern, generated, in_session, samples
from shared.errors import Rejected

VARIANTS = 12
TEMPERATURE = 0.9


def opening(options: Options) -> list[AnyStep]:
    if not options.rubric:
        raise Rejected("options.rubric: expected the name of a rubric, got none")
    steps: list[AnyStep] = [
        Render(options.prompt or "direct"),
        generated(
            options,
            n=samples(options, VARIANTS),
            temperature=TEMPERATURE if options.temperature is None else options.temperature,
        ),
        Judge("rubric", rubric=options.rubric),
    ]
    return in_session(options, steps)


PATTERN = Pattern(name="best-of-n", title="Several variants, of which a rubric picks the best", open=opening)
