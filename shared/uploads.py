"""Reads what users have uploaded: a tenant's bucket `claims`, which lies in its own account where there is any."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator

from nats.js import JetStreamContext
from nats.js.api import ObjectInfo
from nats.js.errors import NotFoundError

from contracts import accounts
from contracts.subjects import CLAIMS
from shared.bus import Bus, answered
from shared.errors import Poison, Retryable
from shared.streams import backing

STREAM = backing(CLAIMS)


class Uploads:
    """The uploads of one tenant. Chunk by chunk, as requests and replies: these cross the border of an account."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._js: JetStreamContext = bus.js
        if bus.accounts:
            self._js = bus.nc.jetstream(prefix=accounts.api(tenant), timeout=10)

    async def info(self, name: str) -> ObjectInfo:
        """What is known of an upload. Raises NotFoundError."""
        store = await answered(self._js.object_store(CLAIMS.name))
        return await answered(store.get_info(name))

    async def chunk(self, info: ObjectInfo, sequence: int) -> tuple[int, bytes]:
        """The first chunk of an upload from a sequence of its stream on, and its own. Raises NotFoundError."""
        subject = f"$O.{CLAIMS.name}.C.{info.nuid}"
        message = await answered(self._js.get_msg(STREAM, seq=max(sequence, 1), subject=subject, next=True))
        return message.seq or 0, message.data or b""

    async def read(self, name: str) -> bytes:
        """The whole of it. Raises NotFoundError, Poison where a part is gone, Retryable where it is another."""
        info = await self.info(name)
        data = b"".join([chunk async for chunk in self._chunks(info)])
        given = (info.digest or "").removeprefix("SHA-256=").rstrip("=")
        if given and given != _digest(data):
            raise Retryable(f"upload {name}: the object store does not give it whole")
        return data

    async def _chunks(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        sequence, left = 0, info.size or 0
        while left > 0:
            try:
                sequence, data = await self.chunk(info, sequence + 1)
            except NotFoundError:
                raise Poison(f"upload {info.name}: a part of it is gone; it may have expired") from None
            left -= len(data)
            yield data


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
