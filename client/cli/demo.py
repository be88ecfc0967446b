"""`penstock demo`: what `make run` shows"""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

import client
from client.batch import Batch, default_job
from client.cli import ask, batch, down, ingest, up
from client.cli.options import Data
from client.cli.screen import Screen
from client.client import Penstock
from client.errors import UsageError
from client.items import read_items
from client.stack import find_data
from contracts.job import Options

app = typer.Typer()

FOLDER = Path(".penstock-demo")
OURS = ("supervisord.conf", ".lock")  # what a stack leaves in its data folder
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUESTION = "Does plan HMO-483 cover physiotherapy after ACL surgery?"
QUESTIONS = "questions.jsonl"
LIBRARY = "library"


@app.command("demo")
def command(
    data: Data = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", help="A folder with library/ and questions.jsonl.")
    ] = None,
) -> None:
    """Start a stack of its own, read the sample library, ask a question, run a batch, and stop the stack.

    Of the batch's 127 items 12 must fail, each for its reason. Nothing is left running, whatever happens.
    """
    screen = Screen()
    folder = find_data(data or FOLDER)
    samples = samples or Path(client.__file__).parents[1] / "samples"
    if not (samples / QUESTIONS).is_file():
        raise UsageError(f"{samples / QUESTIONS}: no such file; the demo needs the samples of the repository")
    with stack(folder, screen) as nats_url:
        asyncio.run(tour(nats_url, samples, folder / "answers.jsonl", screen))


@contextmanager
def stack(folder: Path, screen: Screen) -> Iterator[str]:
    """A fresh stack for the time of the block; SIGTERM and SIGHUP end it like Ctrl-C does."""
    before = {name: signal.signal(name, signal.default_int_handler) for name in ENDS}
    wipe(folder)
    try:
        yield up.start(folder, screen).nats_url
    finally:
        for name in ENDS:
            signal.signal(name, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half a stack
        down.stop(folder, screen)
        for name in ENDS:
            signal.signal(name, before[name])


def wipe(folder: Path) -> None:
    """Remove the data of an earlier demo; raises UsageError for a folder that holds something else."""
    if not folder.exists():
        return
    if any(folder.iterdir()) and not any((folder / name).exists() for name in OURS):
        raise UsageError(f"{folder}: holds something else than a stack's data; choose another --data")
    from client.stack import down as stop

    stop(folder)
    shutil.rmtree(folder)


async def tour(nats_url: str, samples: Path, out: Path, screen: Screen) -> None:
    """The sample library, the question and the batch."""
    file = samples / QUESTIONS
    async with await Penstock.connect(nats_url) as penstock:
        screen.out.print(Rule(f"penstock ingest {samples.name}/{LIBRARY}", align="left"))
        await ingest.ingest_paths(penstock, screen, [samples / LIBRARY])
        screen.out.print(Rule(f'penstock ask "{QUESTION}"', align="left"))
        await ask.ask(penstock, screen, QUESTION, "rag", Options())
        screen.out.print(
            Rule(f"penstock batch {samples.name}/{QUESTIONS} --pattern rag --option when_refused=fail", align="left")
        )
        options = Options(when_refused="fail")
        job = default_job(file.read_bytes(), "rag", options)
        report = await batch.run_with_bar(penstock, screen, Batch(job, "rag", options, read_items(file)), out)
        batch.show(screen, report, out)
