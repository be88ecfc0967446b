"""One prompt, one answer; where there is a schema, as JSON that fits it."""

from contracts.job import Options
from contracts.steps import AnyStep, Render
from services.route.domain.pattern import Pattern, generated, in_session


def opening(options: Options) -> list[AnyStep]:
    steps: list[AnyStep] = [
        Render(options.prompt or "direct"),
        generated(options, stream=bool(options.stream)),
    ]
    return in_session(options, steps)


PATTERN = Pattern(
    name="direct", title="One prompt, one answer, as JSON where a schema is given", open=opening, turns=True
)
