"""Whole long documents: summaries of the sections, a summary of these, and the question asked of them."""

from contracts.item import Input, Item
from contracts.job import Options
from contracts.steps import AnyStep, Decide, Generate, Render, Scatter, Sections
from services.route.domain.pattern import QUESTION_MAX, Pattern, generated, in_session

SECTION_TOKENS = 1000
SUMMARY_TOKENS = 400


def long_text_needed(given: Input) -> str | None:
    """A document or a context; the question may be empty, then the summary is the answer."""
    if given.document is None and not given.context.strip():
        return "document: expected a document (or a context) to read, got none"
    if given.document is not None and bool(given.document.claim) == bool(given.document.text):
        return f"document: expected either a claim or a text, got {'both' if given.document.claim else 'neither'}"
    if len(given.question) > QUESTION_MAX:
        return f"question: expected 0 to {QUESTION_MAX} characters, got {len(given.question)}"
    return None


def opening(options: Options) -> list[AnyStep]:
    summarise: list[AnyStep] = [Render("section-summary"), Generate(max_tokens=min(options.max_tokens, SUMMARY_TOKENS))]
    steps: list[AnyStep] = [
        Sections(tokens=SECTION_TOKENS),
        Scatter(slip=summarise, over="parts"),
        Render("master-summary"),
        Generate(max_tokens=options.max_tokens),
        Decide(),
    ]
    return in_session(options, steps)


def answer_the_question(item: Item, options: Options) -> list[AnyStep]:
    """The targeted question over the summaries; without a question (or a form to fill) the summary is the answer."""
    if not item.input.question.strip() and options.schema is None:
        return []
    return [
        Render(options.prompt or "final-answer"),
        generated(options, stream=bool(options.stream)),
    ]


PATTERN = Pattern(
    name="map-reduce",
    title="Whole long documents: section summaries, a summary of all, targeted questions",
    open=opening,
    needs=long_text_needed,
    decide=answer_the_question,
)
