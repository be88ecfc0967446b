"""What a job's options may say, before any work is done for it."""

from collections.abc import Sequence

from contracts.item import Tool
from contracts.job import Options
from contracts.steps import AnyStep, Render, Scatter
from contracts.subjects import TOKEN
from services.route.domain.prompts import Prompts
from shared.errors import Rejected
from shared.models import Catalogue, Model
from shared.schema_check import Uncheckable, validator_of

RANGES: dict[str, tuple[float, float]] = {
    "passages": (1, 50),
    "n": (0, 64),
    "max_tokens": (1, 131_072),
    "temperature": (0.0, 2.0),
    "logprobs": (0, 20),
    "seed": (0, 2**31 - 1),  # what engines take: vLLM dies of one that 64 bits do not hold, and takes -1 for none
}

STOPS = 16
CHOICES = ("auto", "none", "required")
"""What `tool_choice` may be besides a tool's name."""


def check_options(options: Options, catalogue: Catalogue) -> None:
    """Raises Rejected that names the option, what was expected, and what it got."""
    for name, (low, high) in RANGES.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise Rejected(f"options.{name}: expected {low} to {high}, got {value}")
    try:
        model = catalogue.get(options.model)
    except Rejected as error:
        raise Rejected(f"options.model: {error}") from None
    if len(options.stop) > STOPS or not all(options.stop):
        raise Rejected(f"options.stop: expected at most {STOPS} texts, none of them empty, got {options.stop!r:.200}")
    _check_tools(options.tools, model, catalogue)
    _check_choice(options)
    if options.schema is not None:
        _check_schema(options.schema)


def check_slip(steps: Sequence[AnyStep], prompts: Prompts) -> None:
    """Raises Rejected where an opening slip renders a prompt that does not exist."""
    for step in steps:
        if isinstance(step, Scatter):
            check_slip(step.slip, prompts)
        if isinstance(step, Render):
            try:
                prompts.get(step.prompt)
            except Rejected as error:
                raise Rejected(f"options.prompt: {error}") from None


def _check_tools(tools: Sequence[Tool], model: Model, catalogue: Catalogue) -> None:
    if tools and not model.tools:
        able = ", ".join(other.name for other in catalogue.models if other.tools) or "none"
        raise Rejected(f"options.tools: the model {model.name!r} takes no tools; those that do: {able}")
    for n, tool in enumerate(tools):
        if not TOKEN.match(tool.name) or tool.name in {*CHOICES, *(other.name for other in tools[:n])}:
            reason = f"expected 1 to 64 letters, digits, - and _, each name once, and not {', '.join(CHOICES)}"
            raise Rejected(f"options.tools[{n}].name: {reason}, got {tool.name[:80]!r}")
        try:
            validator_of(tool.parameters)
        except Uncheckable as error:
            raise Rejected(f"options.tools[{n}].parameters: {error}") from None


def _check_choice(options: Options) -> None:
    choice, names = options.tool_choice, [tool.name for tool in options.tools]
    if choice and not names:
        raise Rejected(f"options.tool_choice: expected options.tools, too, for {choice[:80]!r}")
    if choice and choice not in (*CHOICES, *names):
        raise Rejected(f"options.tool_choice: expected one of {', '.join([*CHOICES, *names])}, got {choice[:80]!r}")


def _check_schema(schema: dict[str, object]) -> None:
    try:
        validator_of(schema)
    except Uncheckable as error:
        raise Rejected(f"options.schema: {error}") from None
    if schema.get("type", "object") not in ("object", "array"):
        raise Rejected(f"options.schema: expected the type object or array, got {schema['type']!r}")
