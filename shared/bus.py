"""The bus: streams and buckets, publishing with acknowledgement, write-once subjects, the claim check."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoRespondersError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta, RawStreamMsg
from nats.js.errors import (
    APIError,
    DigestMismatchError,
    NoStreamResponseError,
    NotFoundError,
    ServiceUnavailableError,
)
from nats.js.object_store import ObjectStore

from contracts.accounts import COPIES, api
from contracts.subjects import (
    BUCKETS,
    CLAIM,
    CLAIM_BUCKET,
    CLAIMS,
    CONTROL,
    EXPECT_LAST_SUBJECT_SEQUENCE,
    JOBS,
    MSG_ID,
    PARKED,
    STREAMS,
    TENANT,
    Stream,
)
from shared.errors import Poison, QueueFull, Retryable
from shared.owner import owner
from shared.settings import StreamSizes
from shared.streams import NOTHING_SET, backing, ensure_bucket, ensure_stream, stream_config

log = logging.getLogger("penstock.bus")

CLAIM_BYTES = 512 * 1024
"""Payloads above this many bytes go to the object store; the message carries the claim."""

BUSY_S = 5.0
"""When who finds a queue full should come back."""

TOMBSTONE_S = 300
"""For longer than a redelivery usually takes: a scatter that is repeated then finds its group joined."""

HEADERS_MAX = 16 * 1024  # bytes
_LOOK_S = 0.25
_SIT_OUT_S = 60.0  # what a patient bus waits for a stream without a leader
_ELECTION_S = 15.0  # and what any other does, in a cluster
_FULL_S = 1.0  # pause of a patient bus
_GET_S = 30.0  # nats-py waits for ever for an object whose chunks are gone
_NO_STREAM = "NATS: the stream does not answer (JetStream is starting or has no leader)"
_WRONG_LAST_SEQUENCE = 10071
_NO_SPACE = 10023  # what the server may store on disk is used up, over all streams
_FULL = {10077, 10047, 10122}  # maximum messages, bytes, or storage of a stream that refuses

_PARKED_STREAM = Stream(f"KV_{PARKED.name}", (), "services", "limits")

T = TypeVar("T")


class WrittenBefore(Retryable):
    """A write-once subject has its message already."""


class NoAnswer(Retryable):
    """The stream or its server does not answer now: it is away, starting, or its cluster elects a leader."""


@dataclass
class Bus:
    """A connection to NATS with everything on it that Penstock uses."""

    nc: Client
    js: JetStreamContext
    patient: bool = False  # a full stream is waited for, not raised: what has been accepted is never dropped
    accounts: bool = False  # the server has accounts: contracts/accounts.py
    replicas: int = 1  # of each stream, in a cluster
    sizes: StreamSizes = NOTHING_SET
    _objects: dict[str, ObjectStore] = field(default_factory=dict)

    @classmethod
    def on(
        cls, nc: Client, *, patient: bool = False, accounts: bool = False, replicas: int = 1,
        sizes: StreamSizes = NOTHING_SET,
    ) -> "Bus":  # fmt: skip
        return cls(nc, nc.jetstream(timeout=10), patient, accounts, replicas, sizes)

    async def publish(
        self, subject: str, payload: bytes, *, msg_id: str = "", headers: Mapping[str, str] | None = None
    ) -> int:
        """Publish to a stream and wait until it is stored; returns its sequence. A repeated `msg_id` changes nothing.

        Raises QueueFull where the stream refuses (a patient bus waits), NoAnswer where the server does not answer.
        """
        head = dict(headers or {})
        if msg_id:
            head[MSG_ID] = msg_id
        payload = await self._check_in(subject, payload, head)
        while True:
            try:
                return await self.patiently(lambda: self._publish(subject, payload, head))
            except QueueFull:
                if not self.patient:
                    raise
                log.warning("%s: its stream is full, trying again", subject)
                await asyncio.sleep(random.uniform(0.5, 1.5) * _FULL_S)

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """`answered`, again and again while a stream has no leader. What is called must bear to be called twice: a
        publish carries its message id or what it expects, a read changes nothing.

        A cluster elects for some seconds. A service waits longer than that, its message kept by heartbeats, so that an
        election does not use up the attempts of tasks; who submits is told sooner, and on a lone server at once.
        """
        patience = _SIT_OUT_S if self.patient else _ELECTION_S if len(self.nc.servers) > 1 else 0.0
        until = time.monotonic() + patience
        while True:
            try:
                return await answered(call())
            except NoAnswer as error:
                if time.monotonic() >= until:
                    raise
                log.info("%s; trying again", error)
                await asyncio.sleep(random.uniform(0.5, 1.5) * _LOOK_S)

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        reply = await self.nc.request(subject, payload, timeout=10, headers=headers or None)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise APIError.from_error(answer["error"])
        return int(answer["seq"])

    async def write_once(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish only where the subject has no message yet. False: there is one, and that one counts."""
        try:
            await self.publish(subject, payload, headers={**(headers or {}), EXPECT_LAST_SUBJECT_SEQUENCE: "0"})
        except WrittenBefore:
            return False
        return True

    async def last(self, stream: Stream, subject: str) -> RawStreamMsg | None:
        """The last message of a subject; its claim is already resolved.

        Asked of the stream's leader: any replica may answer a direct read, also one that is behind, and who reads here
        must see what was acknowledged before.
        """
        try:
            message = await self.patiently(lambda: self.js.get_last_msg(stream.name, subject))
        except NotFoundError:
            return None
        message.data = await self.payload(message.data or b"", message.headers)
        return message

    async def remove(self, stream: Stream, subject: str) -> None:
        """Take back what is on a subject, so that it can be written once again."""
        await answered(self.js.purge_stream(stream.name, subject=subject))
        if self.accounts and stream in COPIES:
            theirs = self.nc.jetstream(prefix=api(subject.split(".")[1]), timeout=10)
            await answered(theirs.purge_stream(stream.name, subject=subject))

    async def payload(self, data: bytes, headers: Mapping[str, str] | None) -> bytes:
        """A message's payload, fetched from the object store where the message carries only the claim."""
        head = headers or {}
        return await self.get_claim(head[CLAIM], head.get(CLAIM_BUCKET, CLAIMS.name)) if CLAIM in head else data

    async def _check_in(self, subject: str, payload: bytes, headers: dict[str, str]) -> bytes:
        """A tenant's account does not reach the bucket of the services: its results travel whole as far as they can."""
        whole = self.accounts and subject.startswith("results.")
        if len(payload) <= (self.nc.max_payload - HEADERS_MAX if whole else CLAIM_BYTES):
            return payload
        headers[CLAIM] = await self.put_claim(payload, owner(subject, headers))
        return b""

    async def put_claim(self, data: bytes, tenant: str = "") -> str:
        """Store bytes; the name is their hash, so storing them twice keeps one object. `tenant` is whose they are."""
        name = blake2b(data, digest_size=20).hexdigest()
        store = await self.objects()
        try:
            info = await self.patiently(lambda: store.get_info(name))
            if info.size == len(data):
                return name
        except NotFoundError:
            pass
        meta = ObjectMeta(headers={TENANT: [tenant]} if tenant else None)
        await self.patiently(lambda: store.put(name, data, meta))
        return name

    async def get_claim(self, name: str, bucket: str = CLAIMS.name) -> bytes:
        """Fetch bytes by name; raises Poison where there is no such object (any more)."""
        store = await self.objects(bucket)
        try:
            found = await self.patiently(lambda: asyncio.wait_for(store.get(name), _GET_S))
        except NotFoundError:
            raise Poison(f"claim {name}: no such object in the store {bucket!r}; it may have expired") from None
        except (TimeoutError, DigestMismatchError) as error:
            raise Retryable(f"claim {name}: the object store does not give it whole") from error
        return found.data or b""

    async def objects(self, bucket: str = CLAIMS.name) -> ObjectStore:
        if bucket not in self._objects:
            self._objects[bucket] = await answered(self.js.object_store(bucket))
        return self._objects[bucket]

    async def park(self, group: str, payload: bytes) -> None:
        """Keep what waits for a group: a KV entry, written as a plain publish so that the claim check applies."""
        await self.publish(_parked(group), payload)

    async def unpark(self, group: str) -> None:
        """Forget what waited; a tombstone says for a while that it has gone on."""
        ttl = f"{TOMBSTONE_S}s"
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": ttl}
        await self.publish(_parked(group), b"", headers=headers)

    async def gone_on(self, group: str) -> bool:
        """Whether what waited was forgotten a short while ago."""
        message = await self.last(_PARKED_STREAM, _parked(group))
        return message is not None and "KV-Operation" in headers_of(message)

    async def find_parked(self, group: str) -> bytes | None:
        """What waits for a group; None where it has gone on already."""
        message = await self.last(_PARKED_STREAM, _parked(group))
        return None if message is None or "KV-Operation" in headers_of(message) else message.data

    async def ensure(self) -> None:
        """Create what is missing of the streams and buckets, and bring the others up to date.

        On a server with accounts the operator does that (`client/stack/provision.py`): wait until it is done.
        """
        if self.accounts:
            await self._wait_for_streams()
            return
        for stream in STREAMS:
            await ensure_stream(self.js, stream_config(stream, self.replicas), self.sizes)
        for bucket in BUCKETS:
            await ensure_bucket(self.js, bucket, self.replicas, self.sizes)

    async def _wait_for_streams(self) -> None:
        wanted = {stream.name for stream in STREAMS if stream not in (JOBS, CONTROL)} | set(map(backing, BUCKETS))
        tries = 0
        while missing := wanted.difference(await self._stream_names()):
            if tries % 20 == 0:
                log.warning("waiting for the streams %s: `penstock up` makes them", ", ".join(sorted(missing)))
            tries += 1
            await asyncio.sleep(_LOOK_S)

    async def queues(self) -> list[str]:
        """The streams that take submissions: JOBS, or one of each tenant where the server has accounts."""
        return await self._stream_names(JOBS.subjects[0])

    async def controls(self) -> list[str]:
        """The streams that take cancellations: CONTROL, or one of each tenant where the server has accounts."""
        return await self._stream_names(CONTROL.subjects[0])

    async def _stream_names(self, subject: str = "") -> list[str]:
        """The names of streams, of those alone that take this subject where one is given; pages are put together."""
        found: list[str] = []
        while True:
            request = {"offset": len(found)} | ({"subject": subject} if subject else {})
            try:
                reply = await self.nc.request("$JS.API.STREAM.NAMES", json.dumps(request).encode(), timeout=10)
            except (NoRespondersError, NatsTimeout):
                return []
            answer = json.loads(reply.data)
            names = answer.get("streams") or []
            found += names
            if not names or len(found) >= answer.get("total", 0):
                return found


async def answered(call: Awaitable[T]) -> T:
    """Await a call to the server; what may go better later is raised as Retryable."""
    try:
        return await call
    except NotFoundError:
        raise
    except (NoStreamResponseError, NoRespondersError) as error:
        raise NoAnswer(_NO_STREAM) from error
    except APIError as error:
        if error.err_code == _WRONG_LAST_SEQUENCE:
            raise WrittenBefore("written before") from error
        if error.err_code in _FULL:
            raise QueueFull(f"the queue is full: try again in {BUSY_S:g} s", after=BUSY_S) from error
        if error.err_code == _NO_SPACE:
            raise QueueFull(f"the storage of NATS is full: try again in {BUSY_S:g} s", after=BUSY_S) from error
        if isinstance(error, ServiceUnavailableError):
            raise NoAnswer(_NO_STREAM) from error
        raise Retryable(f"NATS: {error.description}") from error
    except (NatsTimeout, ConnectionClosedError, OutboundBufferLimitError) as error:
        raise NoAnswer("NATS does not answer: the server is down or too busy") from error


def headers_of(message: Msg | RawStreamMsg) -> dict[str, str]:
    return dict(message.headers or {})


def at(when: float) -> str:
    """The value of Nats-Schedule for a moment in unix seconds."""
    return "@at " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when + 1))


def _parked(group: str) -> str:
    return f"$KV.{PARKED.name}.{group}"
