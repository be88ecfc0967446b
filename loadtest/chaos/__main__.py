"""A job of many items on the embedded stack, while services, NATS, Redis and the model fail at random from a seed.

`make chaos [ITEMS=10000 KILLS=200 SEED=…]`. Prints which faults there were and how often, and as its last line JSON.
Ends with 1 where an item was lost, counted twice, or failed without a reason.
"""

import argparse
import asyncio
import json
import random
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.chaos.outcome import Outcome, Settings
from loadtest.chaos.outcome import Progress as Standing
from loadtest.chaos.run import run
from shared.errors import PenstockError

screen = Console(stderr=True)


def main() -> int:
    settings = _arguments()
    screen.print(f"{settings.items:,} items, {settings.kills} kills, SEED={settings.seed}")
    try:
        outcome = asyncio.run(_shown(settings))
    except PenstockError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    _show(outcome)
    print(json.dumps(summary(settings, outcome)))
    return 0 if outcome.verdict.kept else 1


def _arguments() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Settings()
    parser.add_argument("--items", type=int, default=usual.items)
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--gap", type=float, default=usual.gap_s, help="seconds between faults (default: %(default)s)")
    parser.add_argument("--ack-wait", type=float, default=usual.ack_wait_s, help="seconds until a redelivery")
    parser.add_argument("--model-faults", type=float, default=usual.model_faults, help="share of calls that fail")
    parser.add_argument("--skew", default=usual.skew, help="clocks that are wrong (default: %(default)s)")
    given = parser.parse_args()
    if given.items < 1 or given.kills < 1:
        parser.error("--items and --kills must be at least 1")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return Settings(given.items, given.kills, seed, given.gap, given.ack_wait, given.model_faults, given.skew)


async def _shown(settings: Settings) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        items = bar.add_task("items", total=settings.items)
        kills = bar.add_task("kills", total=settings.kills)

        def watch(standing: Standing) -> None:
            bar.update(items, completed=standing.arrived)
            bar.update(kills, completed=standing.kills)

        return await run(settings, watch)


def summary(settings: Settings, outcome: Outcome) -> dict[str, object]:
    """The last line. `sold_per_item`: whole answers that the model gave; the other calls failed."""
    verdict, model = outcome.verdict, outcome.model
    return {
        "submitted": verdict.submitted,
        "arrived": verdict.arrived,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "failed": verdict.failed,
        "kills": outcome.progress.kills,
        "recovered_s": round(outcome.recovered_s, 1),
        "tail_s": round(outcome.tail_s, 1),
        "seconds": round(outcome.seconds, 1),
        "calls_per_item": round(model.calls.total() / settings.items, 4),
        "sold_per_item": round(model.sold.total() / settings.items, 4),
        "dead_letters": outcome.dead_letters,
        "seed": settings.seed,
    }


def _show(outcome: Outcome) -> None:
    table = Table(title="What went wrong")
    table.add_column("fault")
    table.add_column("times", justify="right")
    for name, times in sorted((outcome.progress.done + outcome.model.done_wrong).items()):
        table.add_row(name, str(times))
    console = Console()
    console.print(table)
    for reason, times in outcome.reasons.items():
        console.print(f"{times} items failed: {reason}", markup=False)
    for service, lines in outcome.logs.items():
        console.print(f"log of {service}: {' | '.join(lines)}", markup=False)
    for wrong in outcome.verdict.faults:
        console.print(f"BROKEN: {wrong}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
