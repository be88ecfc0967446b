"""Reads a stream from its beginning, in order, through reconnects and server restarts."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from contracts.subjects import Stream
from shared.bus import answered

HEARTBEAT_S = 1.0
LOOK_S = 1.0


async def follow(
    js: JetStreamContext, stream: Stream, subjects: Sequence[str], *, headers_only: bool = False
) -> AsyncGenerator[Msg, None]:
    """Every message of these subjects, those stored and those to come, each once; has no end of its own."""
    config = ConsumerConfig(
        filter_subjects=list(subjects), ack_policy=AckPolicy.NONE, headers_only=headers_only, inactive_threshold=30
    )
    subscription = await answered(
        js.subscribe(subjects[0], stream=stream.name, config=config, ordered_consumer=True, idle_heartbeat=HEARTBEAT_S)
    )
    last = 0
    try:
        while True:
            try:
                message = await subscription.next_msg(timeout=LOOK_S)
            except NatsTimeout:
                continue
            sequence = message.metadata.sequence.stream
            if sequence > last:  # the consumer may start anew after a gap and repeat what we have
                last = sequence
                yield message
    finally:
        with suppress(NatsError):  # the connection may be gone; the server forgets the consumer by itself then
            await subscription.unsubscribe()
            await js.delete_consumer(stream.name, subscription._consumer)


async def stored(
    js: JetStreamContext, stream: Stream, subject: str, *, headers_only: bool = False
) -> AsyncGenerator[Msg, None]:
    """Every message of a subject that is stored now; ends with the last."""
    try:
        end = (await answered(js.get_last_msg(stream.name, subject, direct=True))).seq or 0
    except NotFoundError:
        return
    async with aclosing(follow(js, stream, [subject], headers_only=headers_only)) as messages:
        async for message in messages:
            yield message
            if message.metadata.sequence.stream >= end:
                return
