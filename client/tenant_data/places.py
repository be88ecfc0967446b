"""Where a tenant's data lies, place by place. Each can be read and emptied; what is exported is what is erased."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Struct
from nats.js.api import RawStreamMsg
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from client.discovery import answers
from client.tenant_data.streams import StreamOf
from contracts.documents import Document
from contracts.events import Forgotten
from contracts.subjects import CLAIM, ERASED, documents, forget
from contracts.task import DeadLetter, Task
from shared.bus import Bus, headers_of
from shared.errors import Poison
from shared.owner import owner, redis_patterns

_FORGET_S = 20.0
_REWRITE_LOOK_S, _REWRITE_LOOKS = 0.1, 600
_DELETES_AT_ONCE = 500


@dataclass(frozen=True)
class Record:
    """One thing that is kept: what it is called there, what it says of itself, and its content."""

    name: str
    data: bytes
    headers: Mapping[str, str]


class Place(Protocol):
    """A place; `name` is for people and for the export's files."""

    name: str

    def records(self) -> AsyncIterator[Record]:
        """All that is the tenant's."""

    async def erase(self) -> int:
        """Remove it, as far as it is there now; returns how many things that were."""


@dataclass
class Subjects:
    """All messages of some subjects, which carry the tenant's name."""

    name: str
    bus: Bus
    stream: StreamOf
    filters: Sequence[str]

    async def records(self) -> AsyncIterator[Record]:
        for subject in self.filters:
            async for message in self.stream.messages(subject):
                yield await _record(self.bus, message)

    async def erase(self) -> int:
        return sum([await self.stream.purge(subject) for subject in self.filters])


@dataclass
class Groups(Subjects):
    """All messages of the tenant's groups; a group is one token of a subject, and begins with the tenant."""

    tenant: str = ""

    async def records(self) -> AsyncIterator[Record]:
        for subject in await self._mine():
            async for message in self.stream.messages(subject):
                yield await _record(self.bus, message)

    async def erase(self) -> int:
        return sum([await self.stream.purge(subject) for subject in await self._mine()])

    async def _mine(self) -> list[str]:
        return [
            subject
            for filter_ in self.filters
            for subject in await self.stream.subjects(filter_)
            if owner(subject, {}) == self.tenant
        ]


@dataclass
class Owned:
    """Messages of subjects that carry no tenant: each is looked at."""

    name: str
    bus: Bus
    stream: StreamOf
    tenant: str

    async def records(self) -> AsyncIterator[Record]:
        async for message in self._mine():
            yield await _record(self.bus, message)

    async def erase(self) -> int:
        found = [message.seq or 0 async for message in self._mine()]
        return sum([await self.stream.delete(sequence) for sequence in found])

    async def _mine(self) -> AsyncIterator[RawStreamMsg]:
        async for message in self.stream.messages():
            if await self._owner(message) == self.tenant:
                yield message

    async def _owner(self, message: RawStreamMsg) -> str:
        """By subject and headers, else by the task or the letter itself."""
        known = owner(message.subject or "", headers_of(message))
        if known:
            return known
        data = (await _record(self.bus, message)).data
        try:
            return msgspec.msgpack.decode(data, type=Task).tenant
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
        try:
            letter = msgspec.msgpack.decode(data, type=DeadLetter)
            return owner(letter.subject, letter.headers) or msgspec.msgpack.decode(letter.payload, type=Task).tenant
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return ""


@dataclass
class Documents(Subjects):
    """The log of documents. Where there were any, one message stays: who follows the log learns that they are gone."""

    tenant: str = ""

    async def records(self) -> AsyncIterator[Record]:
        async for record in super().records():
            if record.name != documents(self.tenant, ERASED):
                yield record

    async def erase(self) -> int:
        marker = documents(self.tenant, ERASED)
        logged = [subject for subject in await self.stream.subjects(self.filters[0]) if subject != marker]
        removed = sum([await self.stream.purge(subject) for subject in logged])
        if removed:
            gone = Document(ERASED, self.tenant, title="", source="", revision="", chunks=[])
            await self.bus.publish(marker, msgspec.msgpack.encode(gone))
        return removed


class Stored(Struct):
    """What an object store says of an object."""

    name: str
    nuid: str = ""
    deleted: bool = False
    headers: dict[str, list[str]] = {}


@dataclass
class Objects:
    """Objects of a bucket that are the tenant's. Read from the bucket's stream, as that crosses the border of an
    account, and removed without the marks that would keep their names."""

    name: str
    stream: StreamOf
    bucket: str
    is_mine: Callable[[Stored], bool]

    async def records(self) -> AsyncIterator[Record]:
        for _, stored in await self._mine():
            chunks = [message.data or b"" async for message in self.stream.messages(self._chunks(stored))]
            yield Record(stored.name, b"".join(chunks), {})

    async def erase(self) -> int:
        mine = await self._mine()
        for subject, stored in mine:
            await self.stream.purge(self._chunks(stored))
            await self.stream.purge(subject)
        return len(mine)

    def _chunks(self, stored: Stored) -> str:
        return f"$O.{self.bucket}.C.{stored.nuid}"

    async def _mine(self) -> list[tuple[str, Stored]]:
        metas = self.stream.messages(f"$O.{self.bucket}.M.>")
        found = [(m.subject or "", msgspec.json.decode(m.data or b"", type=Stored)) async for m in metas if m.data]
        return [(subject, stored) for subject, stored in found if self.is_mine(stored)]


@dataclass
class RedisKeys:
    """Counters, sessions, answers and whatever else services keep in Redis under the tenant's name."""

    name: str
    redis: "Redis"
    tenant: str

    async def records(self) -> AsyncIterator[Record]:
        for key in await self._mine():
            yield Record(key.decode(errors="replace"), await self._content(key), {})

    async def erase(self) -> int:
        keys = await self._mine()
        for start in range(0, len(keys), _DELETES_AT_ONCE):
            await self.redis.unlink(*keys[start : start + _DELETES_AT_ONCE])
        if keys:
            await self.redis.zrem("{limits}:seen", *keys)
            await self._rewrite_log()
        return len(keys)

    async def _rewrite_log(self) -> None:
        """The log of commands has what was in the keys until it is written anew, which Redis does by itself too."""
        try:
            await self.redis.bgrewriteaof()
        except (NoPermissionError, ResponseError):  # the services' user may not, or it is at it already
            return
        for _ in range(_REWRITE_LOOKS):
            if not await self._rewriting():
                return
            await asyncio.sleep(_REWRITE_LOOK_S)

    async def _rewriting(self) -> bool:
        info = await self.redis.info("persistence")
        return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    async def _mine(self) -> list[bytes]:
        patterns = redis_patterns(self.tenant)
        found: set[bytes] = set()
        for pattern in patterns:
            found.update([key async for key in self.redis.scan_iter(match=pattern, count=1000)])
        return sorted(found)

    async def _content(self, key: bytes) -> bytes:
        kind = await self.redis.type(key)
        match kind:
            case b"hash":
                content: object = list((await self.redis.hgetall(key)).items())
            case b"list":
                content = await self.redis.lrange(key, 0, -1)
            case b"zset":
                content = await self.redis.zrange(key, 0, -1, withscores=True)
            case b"set":
                content = sorted(await self.redis.smembers(key))
            case _:
                value = await self.redis.get(key)
                return value if isinstance(value, bytes) else b""
        return msgspec.msgpack.encode(content)


@dataclass
class Index:
    """What every replica of retrieve has of the tenant's documents. It holds no more than the log of documents."""

    name: str
    bus: Bus
    tenant: str
    replicas: int
    left: dict[str, int] | None = None  # by replica, after an erasure

    async def records(self) -> AsyncIterator[Record]:
        nothing: tuple[Record, ...] = ()
        for record in nothing:
            yield record

    async def erase(self) -> int:
        found = await answers(self.bus.nc, forget(self.tenant), Forgotten, _FORGET_S, enough=max(self.replicas, 1))
        self.left = {one.replica: one.left for one in found}
        return sum(one.removed for one in found)


async def _record(bus: Bus, message: RawStreamMsg) -> Record:
    """A message with its claim resolved; one whose claim is gone is empty."""
    headers = headers_of(message)
    try:
        data = await bus.payload(message.data or b"", headers)
    except Poison:
        data = b""
    return Record(message.subject or "", data, {name: value for name, value in headers.items() if name != CLAIM})
