"""`penstock limits`"""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen, money, table
from client.cli.session import talk
from contracts.limits import LimitsUse, LimitUse, ScopeUse

app = typer.Typer()

NAMES = {
    "rpm": "calls a minute",
    "tpm": "tokens a minute",
    "rpd": "calls a day",
    "usd_day": "dollars a day",
    "usd_month": "dollars a month",
}


@app.command("limits")
def command(
    user: Annotated[str, typer.Option("--user", help="Only this user, beside the tenant itself.")] = "",
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """What a tenant and its users have used of their limits and budgets, and what waits for room."""
    screen = Screen(json)
    found = talk(data, nats_url, tenant, lambda penstock: penstock.limits(user))
    show(screen, found)
    screen.document(found)


def show(screen: Screen, found: LimitsUse) -> None:
    """One row a limit."""
    if not found.scopes:
        screen.say(f"nothing limits the tenant {found.tenant}; PENSTOCK_LIMITS names a limits.yaml")
        return
    rows = [row for scope in found.scopes for row in _rows(scope)]
    columns = ("whose", "limit", "allowed", "used", "reserved", "left", "resets (UTC)", "waiting")
    right = ("allowed", "used", "reserved", "left", "waiting")
    screen.out.print(table(f"Limits of {found.tenant}", columns, rows, right=right))


def _rows(scope: ScopeUse) -> list[tuple[object, ...]]:
    whose = scope.name or "no user" if scope.kind == "user" else "the tenant"
    waiting = f"{scope.waiting:,} + {scope.waiting_batch:,} batch" if scope.waiting or scope.waiting_batch else ""
    return [
        (
            whose if place == 0 else "",
            NAMES[limit.name],
            _amount(limit, limit.limit),
            _amount(limit, limit.used),
            _amount(limit, limit.reserved) if limit.reserved else "",
            _left(limit),
            f"{datetime.fromtimestamp(limit.resets_at, UTC):%Y-%m-%d %H:%M}" if limit.resets_at else "slides",
            waiting if place == 0 else "",
        )
        for place, limit in enumerate(scope.limits)
    ]


def _left(limit: LimitUse) -> Text:
    left = max(0.0, limit.limit - limit.used - limit.reserved)
    return Text(_amount(limit, left), style="" if left else "red")


def _amount(limit: LimitUse, amount: float) -> str:
    return money(amount) if limit.name.startswith("usd") else f"{amount:,.0f}"
