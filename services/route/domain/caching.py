"""Says of a slip whether its answers may be kept, and what besides item and library shapes them.

They may where the slip looks for passages, asks a model for one sample at temperature 0, and has the answer checked
against the passages. What shapes them is all of the slip but the streaming, the prompt's files, the model's entry in
the catalogue, and this version of Penstock: change one of these, and nothing that was kept before is found.
"""

from dataclasses import replace
from hashlib import blake2b

import msgspec
from msgspec.structs import replace as with_fields

from contracts.job import Options
from contracts.steps import AnyStep, Generate, Judge, Render, Rerank, Retrieve
from services.route.domain.pattern import Pattern
from services.route.domain.patterns import Patterns
from services.route.domain.prompts import Prompts
from shared import VERSION
from shared.errors import Rejected
from shared.models import Catalogue

_KEPT = [Retrieve, Rerank, Render, Generate, Judge]


def keeping(patterns: Patterns, prompts: Prompts, catalogue: Catalogue) -> Patterns:
    """The same patterns, whose slips say under what their answers are kept."""

    def marked(pattern: Pattern) -> Pattern:
        return replace(pattern, open=lambda options: mark(pattern.open(options), options, prompts, catalogue))

    return replace(patterns, by_name={pattern.name: marked(pattern) for pattern in patterns})


def mark(steps: list[AnyStep], options: Options, prompts: Prompts, catalogue: Catalogue) -> list[AnyStep]:
    """The slip with its Retrieve marked, where answers may be kept."""
    if [type(step) for step in steps] != _KEPT:
        return steps
    first, _, render, generate, judge = steps
    assert isinstance(first, Retrieve)
    assert isinstance(render, Render)
    assert isinstance(generate, Generate)
    if generate.n != 1 or generate.temperature != 0.0 or judge != Judge("grounding"):
        return steps
    try:
        prompt, model = prompts.get(render.prompt), catalogue.get(render.model or options.model)
    except Rejected:
        return steps  # the submission is refused for it elsewhere
    alike = [*steps[:3], with_fields(generate, stream=False), judge]
    about = [VERSION, msgspec.to_builtins(alike), prompt.ref, prompt.digest, model.model_dump(mode="json")]
    digest = blake2b(msgspec.json.encode(about), digest_size=12).hexdigest()
    return [with_fields(first, cache=f"{prompt.ref}:{digest}"), *steps[1:]]
