"""The log of documents, read: the last revision of one, or all of them in the order in which they were written.

A document larger than a message lies in the bucket LIBRARY, whose objects never expire; its message carries the claim.
"""

from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from contracts.documents import Document
from contracts.subjects import CLAIM, DOCUMENTS, documents
from shared.bus import Bus, answered, headers_of
from shared.errors import Poison


class Logged(Struct, frozen=True):
    """A document as it stands in the log."""

    sequence: int
    document: Document
    claim: str = ""  # its object in LIBRARY, where it is too large for a message


class Library:
    """Reads DOCUMENTS. Raises Retryable where NATS does not answer, Poison where a document cannot be read."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, tenant: str, document: str) -> Document | None:
        """The last revision of a document; None where there never was one; without chunks where it was removed."""
        found = await self.find(tenant, document)
        return found.document if found else None

    async def find(self, tenant: str, document: str) -> Logged | None:
        """The same, with its place in the log."""
        subject = documents(tenant, document)
        message = await self._last(subject)
        while message is not None:
            try:
                return await self._logged(message)
            except Poison:
                newer = await self._last(subject)
                if newer is None or newer.seq == message.seq:
                    raise
                message = newer  # replaced while we read, and its object deleted
        return None

    async def replay(self, after_sequence: int = 0) -> AsyncIterator[tuple[int, Document]]:
        """Every document whose last revision was logged after that sequence, oldest first; ends at the end of the log.

        What is replaced meanwhile comes with its new revision.
        """
        sequence = after_sequence
        while (message := await self._next(sequence + 1)) is not None:
            try:
                logged = await self._logged(message)
            except Poison:
                again = await self._next(message.seq or 0)
                if again is not None and again.seq == message.seq:
                    raise
                continue  # replaced while we read
            sequence = logged.sequence
            yield sequence, logged.document

    async def _last(self, subject: str) -> RawStreamMsg | None:
        try:
            return await answered(self._bus.js.get_last_msg(DOCUMENTS.name, subject))
        except NotFoundError:
            return None

    async def _next(self, sequence: int) -> RawStreamMsg | None:
        """The first message from that sequence on. One request each: no consumer whose state could get lost."""
        any_document = DOCUMENTS.subjects[0]
        try:
            return await answered(self._bus.js.get_msg(DOCUMENTS.name, seq=sequence, subject=any_document, next=True))
        except NotFoundError:
            return None

    async def _logged(self, message: RawStreamMsg) -> Logged:
        head = headers_of(message)
        subject = message.subject or ""
        try:
            data = await self._bus.payload(message.data or b"", head)
            return Logged(message.seq or 0, msgspec.msgpack.decode(data, type=Document), head.get(CLAIM, ""))
        except Poison as error:
            raise Poison(f"{subject}: {error}; ingest the document again") from None
        except msgspec.MsgspecError as error:
            raise Poison(f"{subject}: not a document ({error})") from None
