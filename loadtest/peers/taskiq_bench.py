"""N no-ops as taskiq tasks, their results gathered by the client: one task an item, or shards made by hand."""

import asyncio
import time
from typing import Any

import uvloop
from taskiq import TaskiqResultTimeoutError, gather
from taskiq_tasks import broker, noop, pid, shard
from worker import GIVE_UP_S, READY_S, WORKERS, arguments, check_and_print, shards, worker

WINDOW = 250  # tasks whose results are asked for at a time; taskiq asks for each of them over and over
PAUSE_S = 0.02


async def once(n: int, size: int) -> tuple[list[int], float]:
    """All results and the seconds from submission until the client has them."""
    start = time.perf_counter()
    tasks: list[Any] = []
    work = shards(n, size)
    for window in range(0, len(work), WINDOW):
        part = work[window : window + WINDOW]
        calls = (noop.kiq(items[0]) if size == 1 else shard.kiq(items) for items in part)
        tasks += await asyncio.gather(*calls)
    found: list[Any] = []
    for window in range(0, len(tasks), WINDOW):
        found += await gather(*tasks[window : window + WINDOW], timeout=GIVE_UP_S, periodicity=PAUSE_S)
    seconds = time.perf_counter() - start
    values = [result.return_value for result in found]
    return (values if size == 1 else [i for part in values for i in part]), seconds


async def until_all_workers_answer() -> None:
    """Core NATS drops what nobody listens to, so each worker process must have been heard."""
    seen: set[int] = set()
    deadline = time.monotonic() + READY_S
    while len(seen) < WORKERS and time.monotonic() < deadline:
        task = await pid.kiq()
        try:
            seen.add((await task.wait_result(timeout=0.5, check_interval=0.02)).return_value)
        except TaskiqResultTimeoutError:
            continue
    if len(seen) < WORKERS:
        raise SystemExit(f"{len(seen)} of {WORKERS} taskiq workers answered within {READY_S:.0f} s")


async def main() -> None:
    n, size = arguments()
    options = ("worker", "taskiq_tasks:broker", "--workers", str(WORKERS), "--log-level", "ERROR")
    with worker("taskiq", *options):
        await broker.startup()
        await until_all_workers_answer()
        await once(100, size)  # warm
        results, seconds = await once(n, size)
    await broker.shutdown()
    check_and_print(results, n, seconds)


if __name__ == "__main__":
    uvloop.run(main())
