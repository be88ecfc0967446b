"""Draft, critique by checklist, revise: at most two revisions, and the last one is critiqued too.

The prompts are a family of three: <name>-draft, <name>-critique, <name>-revise; the option `prompt` names it.
"""

from msgspec.structs import replace

from contracts.item import Item
from contracts.job import Options
from contracts.steps import AnyStep, Decide, Generate, Judge, Render
from services.route.domain.pattern import Pattern, in_session
from services.route.domain.render import last_rendered, times_rendered

REVISIONS = 2


def opening(options: Options) -> list[AnyStep]:
    return in_session(options, _written("draft", options))


def revise_until_it_passes(item: Item, options: Options) -> list[AnyStep]:
    """Another revision where the critique has findings and fewer than two have been made; else the answer stands."""
    passed = item.verdict is not None and item.verdict.passed
    if passed or times_rendered(item, _prompt("revise", options)) >= REVISIONS:
        return []
    return _written("revise", options)


def restore_the_text(item: Item, options: Options) -> Item:
    """The critique has taken the answer's place: put back the text that it was about."""
    if item.answer is None or not item.draft:
        return item
    wrote = "revise" if times_rendered(item, _prompt("revise", options)) else "draft"
    text = replace(item.answer, text=item.draft, data=None, prompt=last_rendered(item, _prompt(wrote, options)))
    return replace(item, answer=text)


def _written(which: str, options: Options) -> list[AnyStep]:
    return [
        Render(_prompt(which, options)),
        Generate(temperature=options.temperature or 0.0, max_tokens=options.max_tokens),
        Render(_prompt("critique", options)),
        Generate(max_tokens=options.max_tokens),
        Judge("critique"),
        Decide(),
    ]


def _prompt(which: str, options: Options) -> str:
    """One of the family, in the version that the option names for all three."""
    name, at, version = (options.prompt or "reflect").partition("@")
    return f"{name}-{which}{at}{version}"


PATTERN = Pattern(
    name="reflect",
    title="Draft, critique by checklist, revise",
    open=opening,
    decide=revise_until_it_passes,
    amend=restore_the_text,
)
