"""`penstock reindex`"""

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client import reindex
from client.cli.options import Data, Json, NatsUrl
from client.cli.screen import Screen, seconds
from client.cli.session import operate
from client.client import Penstock
from contracts.reindex import Reindexing

app = typer.Typer()


@app.command("reindex")
def command(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ENGINES",
            help="edge, qdrant, or e.g. vectors=qdrant,words=opensearch; default: those that serve now.",
        ),
    ] = "",
    data: Data = None,
    nats_url: NatsUrl = "",
    json: Json = False,
) -> None:
    """Fill search engines anew by replaying the log of documents, then serve with them; questions go on meanwhile.

    Where engines are is in retrieve's settings. Interrupted, the command ends and the filling goes on: the same command
    joins it again. Exits with 1 where an engine could not be filled; those of before go on serving.
    """
    screen = Screen(json)
    state = operate(data, nats_url, lambda penstock: follow(penstock, screen, to))
    screen.say(
        f"vectors are in {state.serving.vectors} now, words in {state.serving.words}: {state.documents} documents, "
        f"{state.passages} passages in {seconds(state.seconds)}"
    )
    screen.document(state)


async def follow(penstock: Penstock, screen: Screen, to: str) -> Reindexing:
    """Run it with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen.progress, transient=True) as progress:
        bar = progress.add_task("filling", total=None)

        def show(state: Reindexing) -> None:
            description = f"{state.state} ({state.passages:,} passages)"
            progress.update(bar, description=description, total=state.of or None, completed=state.documents)

        return await reindex.run(penstock.bus.nc, to, show)
