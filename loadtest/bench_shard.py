"""Where the processor time of a no-op item goes: each piece of its way by itself, without servers.

`python -m loadtest.bench_shard [--items 157]`. Runs what route and generate do with one shard of `make bench-fanout`,
piece by piece, and prints microseconds of processor time an item; the last line is JSON. What is missing to the time of
a whole run (`make bench-million` prints it by process) is the bus: messages, Redis, the pull loop, records.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from contracts.item import Item
from contracts.steps import Generate
from contracts.task import Task
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.handlers import Workshop, generate
from services.route.domain.submission import read_item
from services.route.patterns.noop import PATTERN
from shared.models import Catalogue, Model
from shared.results import merge_back, shard_result, tally
from shared.service import rarely_collect

_ROUNDS = 7
_TIMES = 40

Piece = tuple[str, str, Callable[[], object]]


class _Silent:
    """Nobody listens."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Not called: the shard is not streamed."""


def pieces(items: int) -> list[Piece]:
    """Process, what it does, and a call that does it to a shard of so many items."""
    raw = [b'{"question":"question %d","id":"i%d"}' % (n, n) for n in range(items)]
    step = Generate(model="noop")
    read = [read_item(n, one, PATTERN, 0.0) for n, one in enumerate(raw)]
    task = Task("t/j/0", "t", "j", "noop", read, [step], "t/j", 0, lane="batch")
    packed = msgspec.msgpack.encode(task)
    model = Model(name="noop", engine="noop", default=True)
    workshop = Workshop(Catalogue(models=(model,)), {"noop": Noop(model)}, MemoryLedger(), _Silent())

    def handled() -> list[Item]:
        return _at_once(generate(task, step, workshop))

    done = msgspec.structs.replace(task, items=handled(), steps=[])
    return [
        ("route", "read the items of a submission", lambda: [read_item(n, x, PATTERN, 0.0) for n, x in enumerate(raw)]),
        ("route", "encode the shard", lambda: msgspec.msgpack.encode(task)),
        ("generate", "decode the shard", lambda: msgspec.msgpack.decode(packed, type=Task)),
        ("generate", "request, completion and answer of each item", handled),
        ("generate", "put the items back in their places", lambda: merge_back(task.items, done.items)),
        ("generate", "count the shard", lambda: tally(done.items)),
        ("generate", "encode its results as JSON", lambda: msgspec.json.encode(shard_result(done))),
    ]


def _at_once(coroutine: Coroutine[Any, Any, list[Item]]) -> list[Item]:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: list[Item] = done.value
        return result
    raise AssertionError("the no-op engine waits for nothing")


def microseconds(call: Callable[[], object], items: int) -> float:
    """Processor time an item: the least of several rounds, as what disturbs only adds."""
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_TIMES):
            call()
        found.append((time.process_time() - began) / _TIMES / items * 1e6)
    return min(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=157, help="of a shard (default: %(default)s)")
    given = parser.parse_args()
    if given.items < 1:
        parser.error("--items must be at least 1")
    rarely_collect()
    found = [(process, what, microseconds(call, given.items)) for process, what, call in pieces(given.items)]
    _show(found, given.items)
    print(json.dumps({"items": given.items, "us": {what: round(us, 2) for _, what, us in found}}))
    return 0


def _show(found: Sequence[tuple[str, str, float]], items: int) -> None:
    table = Table(title=f"Microseconds of processor time an item, shards of {items}")
    for column in ("process", "what", "µs"):
        table.add_column(column, justify="right" if column == "µs" else "left")
    for process, what, us in found:
        table.add_row(process, what, f"{us:.2f}")
    table.add_row("", "together", f"{sum(us for _, _, us in found):.2f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
