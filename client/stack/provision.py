"""Makes the streams of a server with accounts: those of the services, and each tenant's queue, copies and bucket.

Repeating it changes nothing but what has another form now. Done by the operator: neither services nor tenants may.
"""

from collections.abc import Iterable
from contextlib import suppress

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ExternalStream, StreamConsumerSource, StreamSource
from nats.js.errors import NotFoundError

from contracts.accounts import COPIES, api, control, copier, copy, delivered, queue
from contracts.subjects import BUCKETS, CLAIMS, CONTROL, JOBS, STREAMS, WORK, Stream
from shared.settings import StreamSizes
from shared.streams import ensure_bucket, ensure_stream, stream_config

_HEARTBEAT_S = 1.0
_ON_THEIR_WAY = 1_000


async def provision(nc: Client, tenants: Iterable[str], replicas: int = 0) -> None:
    """Everything, on so many servers of a cluster (0: as many as hold WORK now, else one), of the sizes that the
    environment says.

    `nc` is the operator's connection. Raises SettingsError for a size that is none.
    """
    sizes = StreamSizes.from_environment()
    ours = nc.jetstream(timeout=10)
    replicas = replicas or await _replicas(ours)
    for stream in STREAMS:
        if stream not in (JOBS, CONTROL):
            await ensure_stream(ours, stream_config(stream, replicas), sizes)
    await _without_shared_control(ours)
    for bucket in BUCKETS:
        await ensure_bucket(ours, bucket, replicas, sizes)
    for tenant in tenants:
        for stream in (queue(tenant), control(tenant)):
            await ensure_stream(ours, stream_config(stream, replicas), sizes)
        theirs = nc.jetstream(prefix=api(tenant), timeout=10)
        for stream in COPIES:
            await _copy(ours, theirs, stream, tenant, replicas)
        await ensure_bucket(theirs, CLAIMS, replicas, sizes)


async def _without_shared_control(js: JetStreamContext) -> None:
    """A stack of before had one stream of control for all tenants, whose subjects are theirs now."""
    with suppress(NotFoundError):
        await js.delete_stream(CONTROL.name)


async def _replicas(js: JetStreamContext) -> int:
    try:
        return (await js.stream_info(WORK.name)).config.num_replicas or 1
    except NotFoundError:
        return 1


async def _copy(ours: JetStreamContext, theirs: JetStreamContext, stream: Stream, tenant: str, replicas: int) -> None:
    """The consumer is made here, filtered, so that a tenant's account never has to make one on this side. The copy
    lasts as long as what it is a copy of."""
    consumer = ConsumerConfig(
        durable_name=copier(tenant),
        deliver_subject=delivered(stream, tenant),
        filter_subject=copy(stream, tenant).subjects[0],
        ack_policy=AckPolicy.FLOW_CONTROL,
        flow_control=True,
        idle_heartbeat=_HEARTBEAT_S,
        max_ack_pending=_ON_THEIR_WAY,
    )
    await ours.add_consumer(stream.name, consumer)
    source = StreamSource(
        stream.name,
        external=ExternalStream(api="source.API", deliver=delivered(stream, tenant)),
        consumer=StreamConsumerSource(copier(tenant), delivered(stream, tenant)),
    )
    config = stream_config(copy(stream, tenant), replicas)
    config.max_bytes = -1  # the account has a limit
    config.max_age = (await ours.stream_info(stream.name)).config.max_age
    config.sources = [source]
    await ensure_stream(theirs, config)
