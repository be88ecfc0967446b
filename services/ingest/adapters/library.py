"""The bus behind the handlers: uploaded bytes from the bucket CLAIMS, documents into the log."""

import msgspec
from nats.js.errors import NotFoundError

from contracts.documents import Document
from contracts.subjects import CLAIM, CLAIM_BUCKET, CLAIMS, EXPECT_LAST_SUBJECT_SEQUENCE, LIBRARY, documents
from shared.bus import CLAIM_BYTES, Bus, WrittenBefore, answered
from shared.errors import ItemError
from shared.library import Library
from shared.uploads import Uploads


class BusFiles:
    """Reads what users put into the object store."""

    def __init__(self, bus: Bus, most: int, tenant: str) -> None:
        self._uploads = Uploads(bus, tenant)
        self._most = most

    async def get_bytes(self, name: str, claim: str) -> bytes:
        """Raises ItemError: `unreadable` where there is no such claim, `too_large` before it loads it."""
        try:
            info = await self._uploads.info(claim)
            if (info.size or 0) > self._most:
                raise ItemError("too_large", f"{name}: {info.size:,} bytes; at most {self._most:,} are read")
            return await self._uploads.read(claim)
        except NotFoundError:
            kept = f"uploads are kept for {CLAIMS.ttl_s / 86400:.0f} days"
            raise ItemError("unreadable", f"{name}: no upload {claim!r} in the object store; {kept}") from None


class BusLibrary:
    """Reads and writes the log of documents."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._log = Library(bus)

    async def get(self, tenant: str, document: str) -> Document | None:
        return await self._log.get(tenant, document)

    async def publish(self, document: Document) -> None:
        """Log a revision in the place of the one before.

        Written only where that one still is the last: a message id would forget after the dedupe window, and drop a
        text that came back within it.
        """
        while True:
            before = await self._log.find(document.tenant, document.id)
            if before is not None and before.document.revision == document.revision:
                return
            try:
                await self._write(document, before.sequence if before else 0)
            except WrittenBefore:
                continue  # another worker was faster: with the same revision, or with one that this one replaces
            if before is not None and before.claim:
                await self._forget(before.claim)
            return

    async def _write(self, document: Document, before: int) -> None:
        subject = documents(document.tenant, document.id)
        payload = msgspec.msgpack.encode(document)
        headers = {EXPECT_LAST_SUBJECT_SEQUENCE: str(before)}
        if len(payload) > CLAIM_BYTES:
            name = f"{document.tenant}.{document.id}.{document.revision}.{before}"
            await answered((await self._bus.objects(LIBRARY.name)).put(name, payload))
            headers |= {CLAIM: name, CLAIM_BUCKET: LIBRARY.name}
            payload = b""
        await self._bus.publish(subject, payload, headers=headers)

    async def _forget(self, claim: str) -> None:
        """Delete the object of the revision that was replaced."""
        store = await self._bus.objects(LIBRARY.name)
        try:
            await answered(store.delete(claim))
        except NotFoundError:
            return  # a second worker was faster
