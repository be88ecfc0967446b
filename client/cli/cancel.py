"""`penstock cancel`"""

from typing import Annotated

import typer

from client.cli.options import Data, Json, NatsUrl, Tenant
from client.cli.screen import Screen
from client.cli.session import talk
from client.client import Penstock
from client.errors import NotFound

app = typer.Typer()


@app.command("cancel")
def command(
    job: Annotated[str, typer.Argument(help="Job id.")],
    reason: Annotated[str, typer.Option("--reason", help="Stands in the results of what was not done.")] = "",
    data: Data = None,
    nats_url: NatsUrl = "",
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Stop a job: what is done stays done, the rest arrives as failed with the code "cancelled"."""
    screen = Screen(json)

    async def body(penstock: Penstock) -> str:
        if report := await penstock.find_report(job):
            return f"job {job} has ended already: {report.state}"
        if not await penstock.knows(job):
            raise NotFound(f"job {job}: no such job of tenant {tenant}, or it has not been opened yet")
        await penstock.cancel(job, reason)
        return f"job {job} is being cancelled"

    said = talk(data, nats_url, tenant, body)
    screen.say(said)
    screen.document({"job": job, "said": said})
