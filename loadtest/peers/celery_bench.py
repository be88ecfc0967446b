"""N no-ops as a Celery chord: one task an item, or shards of some items made by hand."""

import time

from celery import chord
from celery_tasks import app, collect, noop, shard
from worker import GIVE_UP_S, READY_S, WORKERS, arguments, check_and_print, shards, worker


def once(n: int, size: int) -> tuple[list[int], float]:
    """All results and the seconds from submission until the client has them."""
    start = time.perf_counter()
    header = [noop.s(i) for i in range(n)] if size == 1 else [shard.s(items) for items in shards(n, size)]
    gathered = chord(header, collect.s()).apply_async().get(timeout=GIVE_UP_S)
    seconds = time.perf_counter() - start
    return (gathered if size == 1 else [i for part in gathered for i in part]), seconds


def main() -> None:
    n, size = arguments()
    options = ("-A", "celery_tasks", "worker", "--concurrency", str(WORKERS), "--loglevel", "ERROR")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    with worker("celery", *options, *quiet):
        noop.delay(0).get(timeout=READY_S)
        once(100, size)  # warm
        results, seconds = once(n, size)
    app.connection_for_write().default_channel.client.flushdb()
    check_and_print(results, n, seconds)


if __name__ == "__main__":
    main()
