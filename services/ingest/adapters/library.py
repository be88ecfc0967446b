"""The bus behind the handlers: uploaded bytes from the bucket CLAIMS, documents into the log."""

import msgspec
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from contracts.documents import Document
from contracts.subjects import CLAIM, CLAIMS, LIBRARY, documents
from shared.bus import CLAIM_BYTES, Bus, answered
from shared.errors import ItemError
from shared.library import Library, Logged


class BusFiles:
    """Reads what users put into the object store."""

    def __init__(self, bus: Bus, most: int) -> None:
        self._bus = bus
        self._most = most

    async def get_bytes(self, name: str, claim: str) -> bytes:
        """Raises ItemError: `unreadable` where there is no such claim, `too_large` before it loads it."""
        try:
            store = await self._bus.objects()
            info = await answered(store.get_info(claim))
            if (info.size or 0) > self._most:
                raise ItemError("too_large", f"{name}: {info.size:,} bytes; at most {self._most:,} are read")
            return (await answered(store.get(claim))).data or b""
        except NotFoundError:
            kept = f"uploads are kept for {CLAIMS.ttl_s / 86400:.0f} days"
            raise ItemError("unreadable", f"{name}: no upload {claim!r} in the object store; {kept}") from None


class BusLibrary:
    """Reads and writes the log of documents."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._log = Library(bus.js)
        self._store: ObjectStore | None = None

    async def get(self, tenant: str, document: str) -> Document | None:
        return await self._log.get(tenant, document)

    async def publish(self, document: Document) -> None:
        """Log a revision. Its message id names the one before, so that going back to an old text counts too."""
        before = await self._log.find(document.tenant, document.id)
        if before is not None and before.document.revision == document.revision:
            return
        subject = documents(document.tenant, document.id)
        sequence = before.sequence if before else 0
        payload = msgspec.msgpack.encode(document)
        headers = {}
        if len(payload) > CLAIM_BYTES:
            headers[CLAIM] = await self._put(f"{document.tenant}.{document.id}.{document.revision}.{sequence}", payload)
            payload = b""
        await self._bus.publish(subject, payload, msg_id=f"{subject}.{document.revision}.{sequence}", headers=headers)
        await self._forget(before)

    async def _put(self, name: str, payload: bytes) -> str:
        await answered((await self._objects()).put(name, payload))
        return name

    async def _forget(self, before: Logged | None) -> None:
        """Delete the object of the revision that was replaced."""
        if before is not None and before.claim:
            try:
                await answered((await self._objects()).delete(before.claim))
            except NotFoundError:
                return  # a second worker was faster

    async def _objects(self) -> ObjectStore:
        if self._store is None:
            self._store = await answered(self._bus.js.object_store(LIBRARY.name))
        return self._store
