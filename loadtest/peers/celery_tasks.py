"""Celery's application: Redis as broker and as result backend, as chords need it."""

import os

from celery import Celery

URL = os.environ["BENCH_REDIS_URL"]

app = Celery("bench", broker=URL, backend=URL)
app.conf.update(
    worker_prefetch_multiplier=64,  # no-ops: waiting for messages one by one would be unfair
    task_serializer="json",
    result_serializer="json",
    result_expires=600,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


def _noop(i: int) -> int:
    return i


def _shard(items: list[int]) -> list[int]:
    return [_noop(i) for i in items]


def _collect(results: list[object]) -> list[object]:
    return results


noop = app.task(_noop, name="noop")
shard = app.task(_shard, name="shard")
collect = app.task(_collect, name="collect")
