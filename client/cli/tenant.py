"""`penstock tenant add`, `rotate`, `remove`, `list`, `export`, `erase`"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from client.cli.options import Data, Json, NatsUrl, in_compose, redis_address
from client.cli.screen import Screen, table
from client.cli.session import operate
from client.client import Penstock
from client.errors import Unreachable, UsageError
from client.stack.info import find_data
from client.stack.lifecycle import running_site
from client.stack.tenants import Access, Site, add, listed, remove, rotate
from client.submission import token
from client.tenant_data.stack import Removed, erase, places
from shared.addresses import shown
from shared.bus import Bus

T = TypeVar("T")

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


@app.command("export")
def export_(
    name: Name,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER|FILE.tar.gz", help="New folder or archive.")],
    data: Data = None,
    nats_url: NatsUrl = "",
    json: Json = False,
) -> None:
    """Write all that the stack holds of a tenant to files: documents, results, records, sessions, uploads."""
    if in_compose(data, nats_url):
        from client.stack.inside import SHARED, run_inside

        folder = out.expanduser().resolve()
        inside = ["tenant", "export", name, "--out", str(SHARED / folder.name), *(["--json"] if json else [])]
        raise typer.Exit(run_inside(inside, shared=folder.parent))
    screen = Screen(json)

    async def work(bus: Bus, redis: "Redis") -> list[Removed]:
        from client.tenant_data.export import export

        return await export(await places(bus, redis, name), out)

    found = with_stack(data, nats_url, name, work)
    screen.out.print(table(str(out), ("what", "how many"), [(one.place, one.count) for one in found], ("how many",)))
    screen.document({"tenant": name, "out": str(out), "exported": found})


@app.command("erase")
def erase_(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="It cannot be undone; without this nothing is done.")] = False,
    data: Data = None,
    nats_url: NatsUrl = "",
    json: Json = False,
) -> None:
    """Remove all that the stack holds of a tenant, and say what that was. Exits with 1 where some is left."""
    if not yes:
        raise UsageError(f"tenant erase {name}: it removes everything of the tenant for good; add --yes to do it")
    if in_compose(data, nats_url):
        from client.stack.inside import run_inside

        raise typer.Exit(run_inside(["tenant", "erase", name, "--yes", *(["--json"] if json else [])]))
    screen = Screen(json)
    with screen.progress.status(f"erasing {name} …"):
        report = with_stack(data, nats_url, name, lambda bus, redis: erase(bus, redis, name))
    rows = [(one.place, one.count, one.note) for one in report.removed]
    screen.out.print(table(f"Removed of {name}", ("where", "how many", ""), rows, ("how many",)))
    if report.jobs_cancelled:
        screen.say(f"{report.jobs_cancelled} jobs were cancelled.")
    said = ("Nothing is left.", "green") if report.complete else ("Not all is gone yet: erase again.", "red")
    screen.say(*said)
    screen.document(report)
    raise typer.Exit(0 if report.complete else 1)


def with_stack(data: Path | None, nats_url: str, name: str, work: Callable[[Bus, "Redis"], Awaitable[T]]) -> T:
    """Run something as the operator, on NATS and Redis. Raises Unreachable."""
    from shared.connect import redis_options
    from shared.redis_servers import redis_client
    from shared.tls import Tls

    token("tenant", name)
    url = redis_address(data)

    async def connected_(penstock: Penstock) -> T:
        async with redis_client(url, socket_connect_timeout=2, **redis_options(url, Tls.from_environment())) as redis:
            try:
                await redis.ping()
            except RedisError as error:
                raise Unreachable(f"Redis at {shown(url)}: {error}") from None
            return await work(penstock.bus, redis)

    return operate(data, nats_url, connected_)


def site(data: Path | None) -> AbstractContextManager[Site]:
    """The stack whose tenants are meant: of compose where that is named, else the embedded one."""
    if in_compose(data):
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
