"""The log of documents: stream DOCUMENTS, one message a document."""

from collections.abc import AsyncIterator

import msgspec
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.documents import Document
from contracts.subjects import DOCUMENTS
from services.retrieve.domain.ports import Head, Logged
from shared.bus import Bus, answered
from shared.errors import Poison

_DECODER = msgspec.msgpack.Decoder(Document)


class DocumentLog:
    """Reads documents from JetStream, large ones from the object store. Raises Retryable where NATS does not answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def get(self, tenant: str, document: str) -> Document | None:
        """The last revision. Raises Poison where it is logged, but cannot be read."""
        subject = subjects.documents(tenant, document)
        message = await self._bus.last(DOCUMENTS, subject)
        return None if message is None else _decode(message.data or b"", subject)

    async def head(self) -> Head:
        info = await answered(self._bus.js.stream_info(DOCUMENTS.name))
        return Head(f"{DOCUMENTS.name} of {info.created}", info.state.last_seq)

    async def since(self, sequence: int) -> AsyncIterator[Logged]:
        """Read on from a sequence, message by message: the stream keeps one a document, so numbers have gaps."""
        while (message := await self._next(sequence + 1)) is not None:
            sequence = message.seq or 0
            yield await self._logged(message)

    async def _next(self, sequence: int) -> RawStreamMsg | None:
        try:
            return await answered(
                self._bus.js.get_msg(DOCUMENTS.name, sequence, subject=DOCUMENTS.subjects[0], direct=True, next=True)
            )
        except NotFoundError:
            return None

    async def _logged(self, message: RawStreamMsg) -> Logged:
        subject, sequence = message.subject or "", message.seq or 0
        _, tenant, document = subject.split(".", 2)
        try:
            data = await self._bus.payload(message.data or b"", message.headers)
            return Logged(sequence, tenant, document, _decode(data, subject))
        except Poison as error:
            return Logged(sequence, tenant, document, None, str(error))


def _decode(data: bytes, subject: str) -> Document:
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise Poison(f"{subject}: not a document: {error}") from None
