"""`penstock batch`"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from client.batch import Batch, BatchReport, default_job, run_batch
from client.cli.ask import usage
from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen, reasons, seconds, table
from client.cli.session import talk
from client.client import Penstock
from client.errors import Interrupted, UsageError
from client.items import documents_of, read_items, with_document
from client.outfile import Counts
from contracts.job import ItemResult, Options

app = typer.Typer()

SHOWN_FAILURES = 20


@app.command("batch")
def command(
    file: Annotated[Path, typer.Argument(help="JSON lines with one item each, or a CSV with a header.")],
    pattern: Annotated[str, typer.Option("--pattern", help="How the items are answered.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON lines with one result each, in the order of items.")],
    job: Annotated[str, typer.Option("--job", help="Job id; default: derived from file, pattern and options.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="K=V", help="passages=8, when_refused=fail, schema=@s.json")
    ] = None,
    deadline: Annotated[float | None, typer.Option("--deadline", help="Seconds for the whole job.")] = None,
    user: Annotated[str, typer.Option("--user", help="Who of the tenant's people it is for.")] = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Submit anew what failed before.")] = False,
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Run a file of items through a pattern. Interrupt it as you like: the same command goes on where it was.

    CSV columns are question, id, context, document (a path) and deadline_s; all others become variables of the prompt.
    A bad line fails alone. Exits with 0 when every item succeeded and with 1 when some failed; either way OUT is whole.
    """
    screen = Screen(json)
    options = read_options(option or [])
    if out.resolve() == file.resolve():
        raise UsageError(f"{out}: would overwrite the items; choose another -o")
    lines = read_items(file)
    job = job or default_job(file.read_bytes(), pattern, options)

    async def body(penstock: Penstock) -> BatchReport:
        batch = Batch(job, pattern, options, await with_documents(penstock, lines, file.parent), deadline, user)
        return await run_with_bar(penstock, screen, batch, out, retry_failed)

    try:
        report = talk(data, nats_url, tenant, body)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped watching; job {job} goes on, the same command attaches to it") from None
    show(screen, report, out)
    raise typer.Exit(1 if report.failed else 0)


def read_options(given: Sequence[str]) -> Options:
    """`k=v` pairs as Options; raises UsageError with the name of the wrong one."""
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--option {pair}: expected name=value")
        values[name] = _value(name, value)
    try:
        return msgspec.convert(values, Options, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise UsageError(f"--option: {error}; known are {known}") from None


def _value(name: str, value: str) -> Any:
    try:
        if value.startswith("@"):
            return msgspec.json.decode(Path(value[1:]).read_bytes())
        return msgspec.json.decode(value) if value.startswith("{") else value
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"--option {name}: {error}") from None


async def with_documents(penstock: Penstock, lines: list[bytes], folder: Path) -> list[bytes]:
    """Store the files that items name (relative to the batch's folder) and put their claims in."""
    result = list(lines)
    claims: dict[str, str] = {}
    for n, path in documents_of(lines).items():
        if path not in claims:
            file = folder / path
            claims[path] = await penstock.upload(file.read_bytes()) if file.is_file() else ""
        result[n] = with_document(lines[n], path, claims[path])
    return result


async def run_with_bar(
    penstock: Penstock, screen: Screen, batch: Batch, out: Path, retry_failed: bool = False
) -> BatchReport:
    """Run it under a live bar: succeeded, failed, rate, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("[green]{task.fields[ok]} succeeded[/] [red]{task.fields[bad]} failed[/] {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen.progress) as progress:
        bar = progress.add_task(batch.pattern, total=len(batch.lines), ok=0, bad=0, rate="")

        def move(counts: Counts) -> None:
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            rate = f"{speed:,.0f} items/s" if speed else ""
            progress.update(bar, completed=counts.done, ok=counts.succeeded, bad=counts.failed, rate=rate)

        return await run_batch(penstock, batch, out, move, retry_failed)


def show(screen: Screen, report: BatchReport, out: Path) -> None:
    """The report: counts, reasons, seconds, tokens, cost, and the first failures."""
    if report.failed:
        failures = _failures(out)
        rows = [
            (result.n, result.id, result.failure.code, result.failure.reason) for result in failures if result.failure
        ]
        screen.out.print(table("Failures", ("item", "id", "code", "reason"), rows, right=("item",)))
        if report.failed > len(rows):
            screen.say(f"… and {report.failed - len(rows)} more in {out}", "dim")
    screen.say(f"{report.succeeded} succeeded, {report.failed} failed", "bold")
    if report.reasons:
        screen.say(f"reasons: {reasons(report.reasons)}")
    if report.rungs:
        screen.say(f"answered by other rungs of the ladder: {reasons(report.rungs)}", "yellow")
    rate = f" ({report.size / report.seconds:,.0f} items/s)" if report.seconds else ""
    screen.say(f"{seconds(report.seconds)}{rate} · {usage(report.usage)} · job {report.job} · {out}", "dim")
    screen.document(report)


def _failures(out: Path) -> list[ItemResult]:
    found = []
    with out.open("rb") as lines:
        for line in lines:
            result = msgspec.json.decode(line, type=ItemResult)
            if result.failure:
                found.append(result)
            if len(found) == SHOWN_FAILURES:
                break
    return found
