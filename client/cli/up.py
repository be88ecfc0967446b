"""`penstock up`"""

import time
from pathlib import Path

import typer
from msgspec.structs import asdict

from client.cli.options import Data, Json
from client.cli.screen import Screen, seconds
from client.stack import StackInfo, find_data, status, up
from shared.addresses import shown

app = typer.Typer()


@app.command("up")
def command(data: Data = None, json: Json = False) -> None:
    """Start the embedded stack, or find it running. Returns when NATS, Redis and all services answer."""
    screen = Screen(json)
    folder = find_data(data)
    start(folder, screen)


def start(folder: Path, screen: Screen) -> StackInfo:
    """Start the stack in a folder and say so; the JSON document is the stack's record."""
    started = time.monotonic()
    was_running = status(folder) is not None
    with screen.progress.status("starting NATS, Redis and the services …"):
        info = up(folder)
    if was_running:
        screen.say(f"The stack in {folder} is running already.")
    else:
        screen.say(f"The stack in {folder} is ready after {seconds(time.monotonic() - started)}.", "green")
    screen.say(f"NATS  {shown(info.nats_url)}\nRedis {shown(info.redis_url)}\nlogs  {folder / 'logs'}")
    private = {"operator_url": shown(info.operator_url), "redis_url": shown(info.redis_url)}
    screen.document(asdict(info) | private | {"was_running": was_running})
    return info
