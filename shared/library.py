"""The log of documents, read: the last revision of one, or all of them in the order in which they were written.

A document larger than a message lies in the bucket LIBRARY, whose objects never expire; its message carries the claim.
"""

from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from contracts.documents import Document
from contracts.subjects import CLAIM, DOCUMENTS, LIBRARY, documents
from shared.bus import answered, headers_of
from shared.errors import Poison


class Logged(Struct, frozen=True):
    """A document as it stands in the log."""

    sequence: int
    document: Document
    claim: str = ""  # its object in LIBRARY, where it is too large for a message


class Library:
    """Reads DOCUMENTS. Raises Retryable where NATS does not answer, Poison where a document cannot be decoded."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._store: ObjectStore | None = None

    async def get(self, tenant: str, document: str) -> Document | None:
        """The last revision of a document; None where there never was one; without chunks where it was removed."""
        found = await self.find(tenant, document)
        return found.document if found else None

    async def find(self, tenant: str, document: str) -> Logged | None:
        """The same, with its place in the log."""
        subject = documents(tenant, document)
        seen = 0
        while True:
            try:
                message = await answered(self._js.get_last_msg(DOCUMENTS.name, subject, direct=True))
            except NotFoundError:
                return None
            sequence = message.seq or 0
            data = await self._payload(message)
            if data is not None:
                return Logged(sequence, _decode(subject, data), headers_of(message).get(CLAIM, ""))
            if sequence == seen:
                raise Poison(f"{subject}: its text is not in the bucket {LIBRARY.name!r}; ingest the document again")
            seen = sequence  # replaced while we read: its next revision is there by now

    async def replay(self, after_sequence: int = 0) -> AsyncIterator[tuple[int, Document]]:
        """Every document whose last revision was logged after that sequence, oldest first; ends at the end of the log.

        What is replaced meanwhile is skipped here and comes with its new revision.
        """
        sequence = after_sequence
        while (message := await self._next(sequence + 1)) is not None:
            sequence = message.seq or 0
            data = await self._payload(message)
            if data is not None:
                yield sequence, _decode(message.subject or "", data)
            elif (last := await self._next(sequence)) is not None and last.seq == sequence:
                raise Poison(f"{message.subject}: its text is not in the bucket {LIBRARY.name!r}; ingest it again")

    async def _next(self, sequence: int) -> RawStreamMsg | None:
        """The first message from that sequence on. One request each: no consumer whose state could get lost."""
        try:
            return await answered(
                self._js.get_msg(DOCUMENTS.name, seq=sequence, subject=DOCUMENTS.subjects[0], next=True, direct=True)
            )
        except NotFoundError:
            return None

    async def _payload(self, message: RawStreamMsg) -> bytes | None:
        """The message's payload; None where it lies in the bucket and is not there any more."""
        claim = headers_of(message).get(CLAIM)
        if not claim:
            return message.data or b""
        if self._store is None:
            self._store = await answered(self._js.object_store(LIBRARY.name))
        try:
            return (await answered(self._store.get(claim))).data or b""
        except NotFoundError:
            return None


def _decode(subject: str, data: bytes) -> Document:
    try:
        return msgspec.msgpack.decode(data, type=Document)
    except msgspec.MsgspecError as error:
        raise Poison(f"{subject}: not a document ({error})") from None
