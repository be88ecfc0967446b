"""`penstock doctor`"""

import asyncio
from pathlib import Path

import typer
from rich.text import Text

from client.checks import machine, stack
from client.cli.options import Data, Json, from_environment, in_compose
from client.cli.screen import Screen, table
from client.servers import Check
from client.stack import find_data

app = typer.Typer()


@app.command("doctor")
def command(data: Data = None, json: Json = False) -> None:
    """Check this machine and the stack: one line each, and what to do. Exits with 1 where something is wrong."""
    if in_compose(data) and not from_environment("PENSTOCK_NATS_URL"):
        from client.stack.inside import run_inside  # half a second that the embedded stack need not wait

        raise typer.Exit(run_inside(["doctor", *(["--json"] if json else [])]))
    screen = Screen(json)
    folder = find_data(data)
    checks = machine(folder) + asyncio.run(_all(folder))
    screen.out.print(table(f"Data folder {folder}", ("", "", "found", "what to do"), [_row(check) for check in checks]))
    screen.document({"data": str(folder), "ok": all(check.ok for check in checks), "checks": checks})
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


async def _all(folder: Path) -> list[Check]:
    return [check async for check in stack(folder)]


def _row(check: Check) -> tuple[object, ...]:
    mark = Text("ok", style="green") if check.ok else Text("no", style="red")
    return (mark, check.name, check.found, "" if check.ok else check.todo)
