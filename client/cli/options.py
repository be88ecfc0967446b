"""The options that all commands share, and what follows from them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from client.errors import Unreachable, UsageError
from client.stack import secrets
from client.stack.config import nats_url as url_of
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


STACK_VARIABLE = "PENSTOCK_STACK"
"""`compose`: the stack of compose.yaml. Anything else: the embedded one. The same as `penstock --stack compose …`."""


def in_compose(data: Path | None, nats_url: str = "") -> bool:
    """Whether the stack of compose.yaml is meant, and no other is named."""
    return os.environ.get(STACK_VARIABLE) == "compose" and data is None and not nats_url


def address(data: Path | None, nats_url: str, tenant: str) -> str:
    """Where NATS answers: --nats-url, else the stack in --data, else $PENSTOCK_NATS_URL, else the stack of compose
    where that is named, else the stack in .penstock.

    Raises Unreachable where no stack was started.
    """
    if known := nats_url or ("" if data else from_environment("PENSTOCK_NATS_URL")):
        return known
    if in_compose(data):
        from client.stack.compose import tenant_url  # half a second that the embedded stack need not wait

        return tenant_url(tenant)
    folder = find_data(data)
    info = load(folder)
    if info is None:
        raise Unreachable(f"no stack is running in {folder}; start one with: penstock up")
    if tenant == "default":
        return info.nats_url
    password = secrets.load(folder).tenants.get(tenant)
    if password is None:
        raise UsageError(f"--tenant {tenant}: no such tenant in {folder}; make it with: penstock tenant add {tenant}")
    return url_of(info.nats_port, tenant, password)


def operator_address(data: Path | None, nats_url: str) -> str:
    """The same for who runs the stack: on the account of the services, with all rights there."""
    if known := nats_url or ("" if data else from_environment("PENSTOCK_NATS_URL")):
        return known
    if in_compose(data):
        from client.stack.compose import tenant_url

        return tenant_url(secrets.OPERATOR)
    info = load(find_data(data))
    if info is None:
        raise Unreachable(f"no stack is running in {find_data(data)}; start one with: penstock up")
    return info.operator_url


def redis_address(data: Path | None) -> str:
    """Where Redis answers who runs the stack: $PENSTOCK_REDIS_URL or its file, else the stack in --data.

    Raises Unreachable where neither is known.
    """
    if data is None and (known := from_environment("PENSTOCK_REDIS_URL")):
        return known
    if in_compose(data):
        raise Unreachable(
            "Redis of compose.yaml is reached from inside: leave --nats-url out, or set PENSTOCK_REDIS_URL"
        )
    info = load(find_data(data))
    if info is None:
        raise Unreachable(f"no stack is running in {find_data(data)}; start one with: penstock up")
    return info.redis_url


def from_environment(variable: str) -> str:
    """An address in a variable, or in the file that <variable>_FILE names; empty where neither is set."""
    if file := os.environ.get(f"{variable}_FILE"):
        return Path(file).read_text(encoding="utf-8").strip()
    return os.environ.get(variable, "")
