"""`penstock eval …`: what Penstock is worth, measured on data of your own."""

import typer

from client.eval import cache, reader, retrieval

eval_app = typer.Typer(help="Measure quality and speed on your own data.", no_args_is_help=True)
eval_app.command("retrieval")(retrieval.command)
eval_app.command("reader")(reader.command)
eval_app.command("cache")(cache.command)


@eval_app.callback()
def _eval() -> None:
    """Measure quality and speed on your own data."""


app = eval_app
