"""Answer from the tenant's documents, quote and cite them, and refuse where they do not say."""

from msgspec.structs import replace

from contracts.item import Item
from contracts.job import Options
from contracts.steps import AnyStep, Decide, Judge, Render, Rerank, Retrieve
from services.route.domain.followup import standalone
from services.route.domain.pattern import Pattern, generated, in_session

CANDIDATES = 30


def opening(options: Options) -> list[AnyStep]:
    steps: list[AnyStep] = [
        Retrieve(top=max(CANDIDATES, options.passages)),
        Rerank(top=options.passages),
        Render(options.prompt or "rag"),
        generated(options, stream=bool(options.stream)),
        Judge("grounding"),
    ]
    return in_session(options, steps, first=[Decide()])


def search_with_history(item: Item, options: Options) -> Item:
    """A follow-up question says too little to search with: earlier questions complete it."""
    return replace(item, query=standalone(item.input.question, item.history))


def go_on(item: Item, options: Options) -> list[AnyStep]:
    return []


PATTERN = Pattern(
    name="rag",
    title="Answers from the documents, with quotes, clauses and pages",
    open=opening,
    decide=go_on,
    amend=search_with_history,
)
