"""Why the work subjects have a pull loop of our own: docs/decisions/0001. Fails once FastStream does as well."""

import asyncio

import pytest
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from in_process import Core, eventually
from nats.js.api import StreamConfig

pytestmark = pytest.mark.servers

SLOTS = 3
MESSAGES = 30


async def test_faststreams_pull_subscriber_takes_more_messages_than_it_has_workers(core: Core) -> None:
    await core.bus.js.add_stream(StreamConfig(name="DESK", subjects=["desk"]))
    broker = NatsBroker(core.url, logger=None)
    running = most_running = most_out = done = 0

    @broker.subscriber(
        "desk",
        stream=JStream("DESK", declare=False),
        durable="desk",
        pull_sub=PullSub(batch_size=SLOTS),
        max_workers=SLOTS,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def work(message: NatsMessage) -> None:
        nonlocal running, most_running, done
        running += 1
        most_running = max(most_running, running)
        await asyncio.sleep(0.1)
        running -= 1
        done += 1

    async def all_done() -> bool:
        nonlocal most_out
        most_out = max(most_out, (await core.bus.js.consumer_info("DESK", "desk")).num_ack_pending or 0)
        return done == MESSAGES

    try:
        await broker.start()
        for n in range(MESSAGES):
            await core.bus.js.publish("desk", str(n).encode())
        await eventually(all_done, 20)
    finally:
        await broker.stop()
        await core.bus.js.delete_stream("DESK")
    assert most_running == SLOTS
    assert most_out > SLOTS  # what waits here is redelivered elsewhere when ack_wait is over
