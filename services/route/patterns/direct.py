"""One prompt, one answer; where there is a schema, as JSON that fits it."""

from contracts.job import Options
from contracts.steps import AnyStep, Generate, Render
from services.route.domain.pattern import Pattern, in_session


def opening(options: Options) -> list[AnyStep]:
    steps: list[AnyStep] = [
        Render(options.prompt or "direct"),
        Generate(
            temperature=options.temperature or 0.0,
            max_tokens=options.max_tokens,
            schema=options.schema,
            stream=bool(options.stream),
        ),
    ]
    return in_session(options, steps)


PATTERN = Pattern(name="direct", title="One prompt, one answer, as JSON where a schema is given", open=opening)
