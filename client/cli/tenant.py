"""`penstock tenant add`, `rotate`, `remove`, `list`"""

import asyncio
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import STACK_VARIABLE, Data, Json
from client.cli.screen import Screen, table
from client.stack.info import find_data
from client.stack.lifecycle import running_site
from client.stack.tenants import Access, Site, add, listed, remove, rotate

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")]
User = Annotated[str, typer.Option("--user", help="A further user of the tenant, with a password of its own.")]


@app.command("add")
def add_(name: Name, user: User = "", data: Data = None, json: Json = False) -> None:
    """Let a tenant in, or one more user of it; says the address with its password. Nothing is restarted."""
    with site(data) as where:
        access = asyncio.run(add(where, name, user))
    screen = Screen(json)
    screen.say(f"{access.user} {'may come in' if access.is_new else 'is there already, its password as before'}:")
    _show(screen, access)


@app.command("rotate")
def rotate_(name: Name, user: User = "", data: Data = None, json: Json = False) -> None:
    """A new password; the one before stops at once."""
    with site(data) as where:
        access = asyncio.run(rotate(where, name, user))
    screen = Screen(json)
    screen.say(f"{access.user} has a new password, the one before has stopped:")
    _show(screen, access)


@app.command("remove")
def remove_(name: Name, user: User = "", data: Data = None, json: Json = False) -> None:
    """Stop a tenant's passwords, or those of one user. Its data stays: see `penstock tenant erase`."""
    with site(data) as where:
        reloaded = asyncio.run(remove(where, name, user))
    screen = Screen(json)
    screen.say(f"{f'{name}.{user}' if user else name} cannot come in any more.")
    if not user:
        screen.say(f"Its data is still there; to remove it: penstock tenant erase {name}", "dim")
    _say_when(screen, reloaded)
    screen.document({"tenant": name, "user": user, "reloaded": reloaded})


@app.command("list")
def list_(data: Data = None, json: Json = False) -> None:
    """All tenants and their users."""
    with site(data) as where:
        found = listed(where.known())
    screen = Screen(json)
    rows = [(one.tenant, "removed" if one.removed else "may come in", ", ".join(one.users)) for one in found]
    screen.out.print(table("Tenants", ("tenant", "", "users"), rows))
    screen.document(found)


def site(data: Path | None) -> AbstractContextManager[Site]:
    """The stack whose tenants are meant: of compose where that is named, else the embedded one."""
    if os.environ.get(STACK_VARIABLE) == "compose" and data is None:
        from client.stack.compose import compose_site  # half a second that the embedded stack need not wait

        return compose_site()
    return running_site(find_data(data))


def _show(screen: Screen, access: Access) -> None:
    screen.say(access.url)
    _say_when(screen, access.reloaded)
    screen.document(access)


def _say_when(screen: Screen, reloaded: bool) -> None:
    if not reloaded:
        screen.say("NATS does not answer: this holds from its next start.", "yellow")
