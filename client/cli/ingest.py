"""`penstock ingest`"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen, seconds, table
from client.cli.session import talk
from client.client import Penstock
from client.documents import find_documents, ingest
from contracts.job import ItemResult, JobReport

app = typer.Typer()


@app.command("ingest")
def command(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Read documents (PDF, HTML, Markdown, DOCX, text, CSV) and make them findable.

    A document replaces the one of the same name; one that has not changed is not read again. Exits with 1 where
    a document could not be read; the others are in.
    """
    screen = Screen(json)

    async def body(penstock: Penstock) -> JobReport:
        return await ingest_paths(penstock, screen, paths)

    report = talk(data, nats_url, tenant, body)
    raise typer.Exit(1 if report.failed else 0)


async def ingest_paths(penstock: Penstock, screen: Screen, paths: Sequence[Path]) -> JobReport:
    """Ingest with a progress bar, then a table of what was read."""
    documents = find_documents(paths)
    results: list[ItemResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen.progress, transient=True) as progress:
        uploads = progress.add_task("sending", total=len(documents))
        reading = progress.add_task("reading", total=len(documents))

        def add(items: list[ItemResult]) -> None:
            results.extend(items)
            progress.advance(reading, len(items))

        report = await ingest(penstock, documents, lambda: progress.advance(uploads), add)
    results.sort(key=lambda result: result.n)
    screen.out.print(table("Documents", ("document", "title", "chunks", "pages", "tokens", ""), _rows(results)))
    screen.say(f"{report.succeeded} read, {report.failed} failed, {seconds(report.seconds)} · job {report.job}")
    screen.document({"report": report, "documents": results})
    return report


def _rows(results: Sequence[ItemResult]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for result in results:
        if result.failure:
            rows.append((result.id, "", "", "", "", Text(result.failure.reason, style="red")))
        elif found := result.document:
            note = "unchanged" if found.unchanged else ""
            rows.append((result.id, found.title, found.chunks, found.pages or "–", found.tokens, note))
    return rows
