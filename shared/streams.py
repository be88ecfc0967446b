"""Makes streams and buckets as contracts/ describes them, or brings those that there are up to date."""

from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from contracts.subjects import Bucket, Stream

_STREAM_NAME_IN_USE = 10058


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create a stream, or give the one of this name this form."""
    try:
        await js.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        await js.update_stream(config)


async def ensure_bucket(js: JetStreamContext, bucket: Bucket, replicas: int = 1) -> None:
    """Create a bucket, or give the one of this name as many replicas."""
    try:
        if bucket.kind == "kv":
            config = KeyValueConfig(bucket.name, history=1, ttl=bucket.ttl_s, direct=True, replicas=replicas)
            await js.create_key_value(config)
        else:
            config_of_objects = ObjectStoreConfig(bucket=bucket.name, ttl=bucket.ttl_s, replicas=replicas)
            await js.create_object_store(bucket.name, config_of_objects)
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        config_of_stream = (await js.stream_info(backing(bucket))).config
        await js.update_stream(config_of_stream, num_replicas=replicas)


def backing(bucket: Bucket) -> str:
    """The stream that a bucket lies in."""
    return f"{'KV' if bucket.kind == 'kv' else 'OBJ'}_{bucket.name}"


def stream_config(stream: Stream, replicas: int = 1) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.WORK_QUEUE if stream.kind == "workqueue" else RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        discard=DiscardPolicy.NEW if stream.refuse_when_full else DiscardPolicy.OLD,
        max_age=stream.max_age_s,
        max_bytes=stream.max_bytes,
        max_msgs_per_subject=stream.per_subject,
        duplicate_window=stream.dedupe_s,
        allow_direct=True,
        allow_rollup_hdrs=stream.replaceable,
        allow_msg_schedules=stream.schedules or None,
        description=f"owner: {stream.owner}",
    )
