"""The ceiling: nats-py alone publishes, fetches and acknowledges N messages of a JetStream stream, one an item.

The consumer is a process of its own (`python -m loadtest.fanout.raw`), as a worker would be.
"""

import asyncio
import sys
import time
from pathlib import Path

import nats
from nats.errors import TimeoutError as NothingYet
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StreamConfig

from client.stack.info import StackInfo
from loadtest.fanout.system import Incomplete, Measured

ROOT = Path(__file__).parents[2]
STREAM = "BENCH_RAW"
SUBJECT = "bench.raw"
READY = "bench.raw-consumer.ready"
DONE = "bench.raw-consumer.done"
WINDOW = 500
GIVE_UP_S = 120.0


def measure(stack: StackInfo, n: int) -> Measured:
    """From the first publish until the consumer has acknowledged all."""
    return asyncio.run(_measure(stack.operator_url, n))


async def _measure(url: str, n: int) -> Measured:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    await stream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE))
    ready, done = await connection.subscribe(READY), await connection.subscribe(DONE)
    warm_up = WINDOW
    consumer = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, url, str(warm_up), str(n), cwd=ROOT)
    try:
        await ready.next_msg(GIVE_UP_S)
        for size in (warm_up, n):
            start = time.perf_counter()
            await _publish(stream, size)
            await done.next_msg(GIVE_UP_S)
            seconds = time.perf_counter() - start
        left = (await stream.stream_info(STREAM)).state.messages
        if left:
            raise Incomplete(f"{left} of {n} messages are still in the stream")
        return Measured(n, seconds)
    finally:
        if consumer.returncode is None:
            consumer.kill()
        await consumer.wait()
        await stream.delete_stream(STREAM)
        await connection.close()


async def _publish(stream: JetStreamContext, n: int) -> None:
    for start in range(0, n, WINDOW):
        size = min(WINDOW, n - start)
        await asyncio.gather(*(stream.publish(SUBJECT, b"%d" % (start + i)) for i in range(size)))


async def _consume(url: str, sizes: list[int]) -> None:
    connection = await nats.connect(url)
    subscription = await connection.jetstream().pull_subscribe(SUBJECT, durable="bench", stream=STREAM)
    await connection.publish(READY)
    for size in sizes:
        taken = 0
        while taken < size:
            try:
                messages = await subscription.fetch(min(WINDOW, size - taken), timeout=1)
            except NothingYet:
                continue
            for message in messages[:-1]:
                await message.ack()
            await messages[-1].ack_sync()
            taken += len(messages)
        await connection.publish(DONE)
    await connection.drain()


if __name__ == "__main__":
    asyncio.run(_consume(sys.argv[1], [int(size) for size in sys.argv[2:]]))
