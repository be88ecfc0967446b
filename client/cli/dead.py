"""`penstock dead list | show | redrive`"""

import time
from typing import Annotated

import msgspec
import typer
from rich.json import JSON

from client.cli.options import Data, Json, NatsUrl
from client.cli.screen import Screen, table
from client.cli.session import operate
from client.client import Penstock
from client.dead import Letter, letter, letters, redrive, task_of
from client.errors import UsageError
from contracts.item import Failure
from contracts.task import Task

app = typer.Typer(no_args_is_help=True)

Service = Annotated[str, typer.Option("--service", help="Only those of one service.")]


class View(msgspec.Struct):
    """A dead letter for people and programs."""

    number: int
    at: float
    service: str
    subject: str
    reason: str
    failure: Failure
    deliveries: int
    headers: dict[str, str]
    bytes: int
    task: Task | None = None


@app.command("list")
def list_(service: Service = "*", data: Data = None, nats_url: NatsUrl = "", json: Json = False) -> None:
    """All dead letters, the oldest first."""
    screen = Screen(json)

    async def body(penstock: Penstock) -> list[View]:
        return [_view(found) async for found in letters(penstock.bus, service)]

    views = operate(data, nats_url, body)
    rows = [(view.number, _when(view.at), view.service, view.subject, view.deliveries, view.reason) for view in views]
    columns = ("number", "when", "service", "subject", "tries", "reason")
    screen.out.print(table(f"{len(views)} dead letters", columns, rows, right=("number", "tries")))
    screen.document(views)


@app.command("show")
def show(
    number: Annotated[int, typer.Argument(help="Its number in the list.")],
    data: Data = None,
    nats_url: NatsUrl = "",
    json: Json = False,
) -> None:
    """One dead letter with the task in it."""
    screen = Screen(json)

    async def body(penstock: Penstock) -> View:
        found = await letter(penstock.bus, number)
        return _view(found, await task_of(penstock.bus, found))

    view = operate(data, nats_url, body)
    if not json:
        screen.out.print(JSON(msgspec.json.encode(view).decode()))
    screen.document(view)


@app.command("redrive")
def redrive_(
    numbers: Annotated[list[int] | None, typer.Argument(help="Their numbers in the list.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, or all of --service.")] = False,
    service: Service = "*",
    data: Data = None,
    nats_url: NatsUrl = "",
    json: Json = False,
) -> None:
    """Send dead letters on their way again, once the reason is mended, and remove them from the list."""
    screen = Screen(json)
    if bool(numbers) == all_:
        raise UsageError("dead redrive: expected numbers of letters, or --all")

    async def body(penstock: Penstock) -> list[int]:
        bus = penstock.bus
        found = [x async for x in letters(bus, service)] if all_ else [await letter(bus, n) for n in numbers or []]
        for one in found:
            await redrive(bus, one)
        return [one.number for one in found]

    sent = operate(data, nats_url, body)
    screen.say(f"{len(sent)} sent again")
    screen.document({"redriven": sent})


def _view(found: Letter, task: Task | None = None) -> View:
    dead = found.letter
    return View(
        number=found.number,
        at=dead.at,
        service=dead.service,
        subject=dead.subject,
        reason=dead.reason,
        failure=dead.failure,
        deliveries=dead.deliveries,
        headers=dead.headers,
        bytes=len(dead.payload),
        task=task,
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
