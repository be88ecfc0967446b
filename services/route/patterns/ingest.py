"""Read documents and make them findable."""

from contracts.item import Input
from contracts.job import Options
from contracts.steps import AnyStep, Index, Parse
from services.route.domain.pattern import Pattern


def document_needed(given: Input) -> str | None:
    if given.document is None or not given.document.name:
        return "document: expected an object with the file's name and its claim or text, got none"
    if bool(given.document.claim) == bool(given.document.text):
        got = "both" if given.document.claim else "neither"
        return f"document: expected either a claim or a text, got {got}"
    return None


def opening(options: Options) -> list[AnyStep]:
    return [Parse(), Index()]


PATTERN = Pattern(name="ingest", title="Reads documents and indexes them", open=opening, needs=document_needed)
