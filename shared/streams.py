"""Makes streams and buckets as contracts/ describes them, or brings those that there are up to date. How much they keep
may be set; where it is not, those that there are keep what they have."""

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

from contracts.subjects import CLAIMS, DAY, Bucket, Stream
from shared.settings import StreamSizes

_STREAM_NAME_IN_USE = 10058


GB = 1 << 30
NOTHING_SET = StreamSizes.model_construct()


async def ensure_stream(js: JetStreamContext, config: StreamConfig, sizes: StreamSizes | None = None) -> None:
    """Create a stream, or give the one of this name this form. Where there are `sizes`, they count for more, and what
    they do not say stays as it is."""
    size: dict[str, float | None] = _size(config.name, sizes) if sizes else {}
    try:
        await js.add_stream(config.evolve(**size))
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        if sizes:
            has = (await js.stream_info(str(config.name))).config
            size = {"max_bytes": has.max_bytes, "max_age": has.max_age} | size
        await js.update_stream(config.evolve(**size))


async def ensure_bucket(
    js: JetStreamContext, bucket: Bucket, replicas: int = 1, sizes: StreamSizes = NOTHING_SET
) -> None:
    """Create a bucket, or give the one of this name as many replicas, and its age where that is set."""
    age_s = _age_s(bucket, sizes)
    try:
        if bucket.kind == "kv":
            config = KeyValueConfig(bucket.name, history=1, ttl=age_s, direct=True, replicas=replicas)
            await js.create_key_value(config)
        else:
            config_of_objects = ObjectStoreConfig(bucket=bucket.name, ttl=age_s, replicas=replicas)
            await js.create_object_store(bucket.name, config_of_objects)
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        has = (await js.stream_info(backing(bucket))).config
        age = has.max_age if sizes.results_days is None else age_s
        await js.update_stream(has.evolve(num_replicas=replicas, max_age=age))


def _size(name: str | None, sizes: StreamSizes) -> dict[str, float | None]:
    """What is set for a stream; the queue of a tenant is called JOBS_<tenant>."""
    of = str(name).partition("_")[0].lower()
    gigabytes, days = getattr(sizes, f"{of}_gb", None), getattr(sizes, f"{of}_days", None)
    found: dict[str, float | None] = {}
    if gigabytes is not None:
        found["max_bytes"] = int(gigabytes * GB)
    if days is not None:
        found["max_age"] = days * DAY
    return found


def _age_s(bucket: Bucket, sizes: StreamSizes) -> float:
    """Large payloads are kept as long as the results that name them, and no shorter than jobs may take."""
    days = sizes.results_days if bucket is CLAIMS else None
    return bucket.ttl_s if days is None else max(bucket.ttl_s, days * DAY)


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
