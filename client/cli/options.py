"""The options that all commands share, and what follows from them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from client.errors import Unreachable
from client.stack.info import find_data, load

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="Data folder of the stack; default: $PENSTOCK_DATA, else .penstock."),
]
NatsUrl = Annotated[
    str,
    typer.Option("--nats-url", metavar="URL", help="A stack elsewhere; default: $PENSTOCK_NATS_URL, else --data's."),
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose documents and jobs.")]


def address(data: Path | None, nats_url: str) -> str:
    """Where NATS answers: --nats-url, else the stack in --data, else $PENSTOCK_NATS_URL, else the stack in .penstock.

    Raises Unreachable where no stack was started.
    """
    from_environment = "" if data else os.environ.get("PENSTOCK_NATS_URL", "")
    if known := nats_url or from_environment:
        return known
    folder = find_data(data)
    info = load(folder)
    if info is None:
        raise Unreachable(f"no stack is running in {folder}; start one with: penstock up")
    return info.nats_url
