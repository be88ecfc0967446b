"""`penstock down`"""

from pathlib import Path

import typer

from client.cli.options import Data, Json
from client.cli.screen import Screen
from client.stack import down, find_data

app = typer.Typer()


@app.command("down")
def command(data: Data = None, json: Json = False) -> None:
    """Stop the stack: services finish what they hold, then nothing is left running. Documents and results stay."""
    stop(find_data(data), Screen(json))


def stop(folder: Path, screen: Screen) -> None:
    """Stop the stack in a folder and say what was found."""
    with screen.progress.status("stopping …"):
        stopped = down(folder)
    if stopped.was_running:
        screen.say(f"The stack in {folder} is stopped.")
    elif stopped.strays:
        screen.say(f"The stack in {folder} had crashed; {stopped.strays} processes that it left are ended.")
    else:
        screen.say(f"No stack was running in {folder}.")
    screen.document({"data": str(folder), "was_running": stopped.was_running, "strays": stopped.strays})
