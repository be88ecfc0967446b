"""taskiq's application: tasks over NATS, results in Redis.

Core NATS with a queue group is taskiq-nats's fastest broker; unlike JetStream it loses the tasks of a worker that dies.
Its own result backend, an object store, is far slower than Redis.
"""

import os

from taskiq_nats import NatsBroker
from taskiq_redis import RedisAsyncResultBackend

PATIENCE_S = 120.0

backend: RedisAsyncResultBackend[object] = RedisAsyncResultBackend(
    os.environ["BENCH_REDIS_URL"],
    result_ex_time=600,
    max_connection_pool_size=32,  # without a limit, thousands of checks at a time open thousands of connections
    timeout=PATIENCE_S,
    socket_timeout=PATIENCE_S,
    socket_connect_timeout=PATIENCE_S,
)
broker = NatsBroker(os.environ["BENCH_NATS_URL"], subject="bench.taskiq", queue="bench").with_result_backend(backend)


async def _noop(i: int) -> int:
    return i


async def _shard(items: list[int]) -> list[int]:
    return [await _noop(i) for i in items]


async def _pid() -> int:
    return os.getpid()


noop = broker.register_task(_noop, task_name="noop")
shard = broker.register_task(_shard, task_name="shard")
pid = broker.register_task(_pid, task_name="pid")
