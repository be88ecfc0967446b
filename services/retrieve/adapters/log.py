"""The log of documents, followed by sequence."""

from collections.abc import AsyncIterator

from contracts.subjects import DOCUMENTS
from services.retrieve.domain.ports import Entered, Head
from shared.bus import Bus, answered
from shared.errors import Poison
from shared.library import Library


class DocumentLog(Library):
    """The library with its order. Raises Retryable where NATS does not answer."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)

    async def head(self) -> Head:
        info = await answered(self._bus.js.stream_info(DOCUMENTS.name))
        return Head(f"{DOCUMENTS.name} of {info.created}", info.state.last_seq)

    async def count(self) -> int:
        """How many documents it has, those that were removed among them."""
        return (await answered(self._bus.js.stream_info(DOCUMENTS.name))).state.messages

    async def since(self, sequence: int) -> AsyncIterator[Entered]:
        """Read on from a sequence. The stream keeps one message a document, so numbers have gaps."""
        while (message := await self._next(sequence + 1)) is not None:
            sequence = message.seq or 0
            _, tenant, document = (message.subject or "").split(".", 2)
            try:
                found = (await self._logged(message)).document
            except Poison as error:
                yield Entered(sequence, tenant, document, None, str(error))
            else:
                yield Entered(sequence, tenant, document, found)
