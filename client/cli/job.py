"""`penstock job`"""

from typing import Annotated

import typer
from msgspec import Struct
from rich.text import Text

from client.cli.ask import usage
from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen, reasons, seconds, table
from client.cli.session import talk
from client.client import Penstock
from client.errors import NotFound
from client.timeline import Share, Span, bar, shares, spans
from contracts.item import Usage
from contracts.job import JobReport

app = typer.Typer()

WIDTH = 40
SHOWN_SPANS = 40


class JobView(Struct):
    """What can be known of a job. Without a report it is at work, or nobody works on it: see `penstock status`."""

    job: str
    state: str
    succeeded: int
    failed: int
    usage: Usage
    report: JobReport | None
    steps: list[Share]
    hops: list[Span]


@app.command("job")
def command(
    job: Annotated[str, typer.Argument(help="Job id.")],
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """State and counts of a job, and its timeline: where it waited and where it was worked on."""
    screen = Screen(json)

    async def body(penstock: Penstock) -> JobView:
        return await look(penstock, job)

    view = talk(data, nats_url, tenant, body)
    show(screen, view)
    screen.document(view)


async def look(penstock: Penstock, job: str) -> JobView:
    """Gather what is stored of a job. Raises NotFound."""
    report = await penstock.find_report(job)
    hops = await penstock.events(job)
    tallies = [] if report else [tally async for tally in penstock.tallies(job)]
    if report is None and not hops and not tallies:
        raise NotFound(f"job {job}: no such job of tenant {penstock.tenant}, or it has not been opened yet")
    return JobView(
        job=job,
        state=report.state if report else "running",
        succeeded=report.succeeded if report else sum(tally.succeeded for tally in tallies),
        failed=report.failed if report else sum(tally.failed for tally in tallies),
        usage=report.usage if report else sum((tally.usage for tally in tallies), Usage()),
        report=report,
        steps=shares(hops),
        hops=spans(hops),
    )


def show(screen: Screen, view: JobView) -> None:
    """The job for people."""
    screen.say(f"job {view.job}: {view.state}, {view.succeeded} succeeded, {view.failed} failed", "bold")
    if report := view.report:
        if report.error:
            screen.say(report.error, "red")
        if report.reasons:
            screen.say(f"reasons: {reasons(report.reasons)}")
        if report.rungs:
            screen.say(f"answered by other rungs of the ladder: {reasons(report.rungs)}", "yellow")
        screen.say(
            f"pattern {report.pattern}, {report.size} items in {report.shards} shards, {seconds(report.seconds)}"
        )
    screen.say(usage(view.usage), "dim")
    if view.steps:
        screen.out.print(_steps(view.steps))
    if view.hops:
        screen.out.print(_timeline(view.hops[:SHOWN_SPANS]))
        if len(view.hops) > SHOWN_SPANS:
            screen.say(f"… and {len(view.hops) - SHOWN_SPANS} more hops; all of them: --json", "dim")


def _steps(steps: list[Share]) -> object:
    longest = max(step.waiting + step.working for step in steps)
    rows = [
        (
            step.service,
            step.step,
            step.hops,
            step.items,
            step.failed or "",
            step.retries or "",
            seconds(step.waiting),
            seconds(step.working),
            _bar(0, step.waiting, step.working, longest),
        )
        for step in steps
    ]
    columns = ("service", "step", "hops", "items", "failed", "retries", "waiting", "working", "░ waiting █ working")
    return table("By step (sums over shards)", columns, rows, right=columns[2:8])


def _timeline(hops: list[Span]) -> object:
    whole = max(span.end for span in hops)
    rows = [
        (
            span.service,
            span.step,
            span.task.split("/", 2)[-1],
            seconds(span.waiting),
            seconds(span.working),
            _bar(span.start, span.waiting, span.working, whole),
            Text(span.error or (f"attempt {span.attempt}" if span.attempt > 1 else ""), style="red"),
        )
        for span in hops
    ]
    columns = ("service", "step", "task", "waiting", "working", f"0 … {seconds(whole)}", "")
    return table("Timeline", columns, rows, right=("waiting", "working"))


def _bar(start: float, waiting: float, working: float, whole: float) -> Text:
    before, wait, work = bar(start, waiting, working, whole, WIDTH)
    return Text.assemble(before, (wait, "dim"), (work, "green"))
