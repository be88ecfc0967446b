"""`penstock status`"""

import time
from pathlib import Path

import typer
from rich.text import Text

from client.cli.options import Data, Json, NatsUrl, Tenant, address
from client.cli.screen import Screen, seconds, size, table
from client.cli.session import operate
from client.client import Penstock
from client.overview import Overview, overview
from client.stack import find_data, status
from client.stack.config import SERVICES
from shared.addresses import shown

app = typer.Typer()


@app.command("status")
def command(data: Data = None, nats_url: NatsUrl = "", tenant: Tenant = "default", json: Json = False) -> None:
    """Services with their replicas, queue depths and lag, memory of each process. Exits with 1 where one is missing."""
    screen = Screen(json)
    url = address(data, nats_url, tenant)
    view = operate(data, nats_url, lambda penstock: look(penstock, url, find_data(data)))
    show(screen, view)
    screen.document(view)
    raise typer.Exit(1 if view.missing else 0)


async def look(penstock: Penstock, url: str, folder: Path) -> Overview:
    """The stack as it is; processes only where it is the one of this data folder."""
    stack = status(folder)
    if stack and shown(stack.nats_url) != shown(url):
        stack = None
    return await overview(penstock, url, list(stack.services if stack else SERVICES), stack)


def show(screen: Screen, view: Overview) -> None:
    """The stack for people."""
    screen.say(f"NATS {shown(view.nats_url)}" + (f" · data {view.data}" if view.data else ""), "bold")
    processes = {process.name: process for process in view.processes}
    rows: list[tuple[object, ...]] = []
    for service in view.services:
        process = processes.pop(service.name, None)
        replicas = Text(str(len(service.replicas)), style="green" if service.replicas else "red")
        rows.append((service.name, replicas, *_process_cells(process.pid, process.state, process.memory)) if process
                    else (service.name, replicas, "", "", ""))  # fmt: skip
    rows += [(p.name, "", *_process_cells(p.pid, p.state, p.memory)) for p in processes.values()]
    screen.out.print(
        table("Services", ("service", "replicas", "pid", "state", "memory"), rows, right=("replicas", "pid", "memory"))
    )
    if view.memory:
        screen.say(f"{size(view.memory)} in all", "dim")
    _show_streams(screen, view)
    _show_breakers(screen, view)
    if view.missing:
        screen.say(f"does not answer: {', '.join(view.missing)}; see the logs, or: penstock doctor", "red")


def _process_cells(pid: int, state: str, memory: int) -> tuple[object, ...]:
    return (pid or "", Text(state.lower(), style="" if state == "RUNNING" else "red"), size(memory))


def _show_breakers(screen: Screen, view: Overview) -> None:
    now = time.time()
    rows = [
        (
            breaker.model,
            seconds(now - breaker.since),
            "now" if breaker.half_open else f"in {seconds(breaker.until - now)}",
            breaker.why,
        )
        for breaker in view.breakers
    ]
    if rows:
        screen.out.print(table("Models that are left alone", ("model", "for", "next probe", "why"), rows))


def _show_streams(screen: Screen, view: Overview) -> None:
    rows: list[tuple[object, ...]] = []
    for stream in view.streams:
        rows.append((stream.name, f"{stream.messages:,}", size(stream.bytes), "", "", "", ""))
        rows += [
            (
                "",
                "",
                "",
                consumer.name,
                f"{consumer.waiting:,}",
                f"{consumer.in_progress:,}",
                consumer.redelivered or "",
            )
            for consumer in stream.consumers
        ]
    columns = ("stream", "messages", "size", "consumer", "waiting", "in progress", "redelivered")
    screen.out.print(
        table("Queues", columns, rows, right=("messages", "size", "waiting", "in progress", "redelivered"))
    )
