"""What JetStream's interface says and does of a stream, in the services' account or a tenant's."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from shared.bus import answered

API = "$JS.API"
_TIMEOUT_S = 30


@dataclass(frozen=True)
class StreamOf:
    """A stream; `api` is what stands for $JS.API of the account that it lies in."""

    nc: Client
    name: str
    api: str = API

    async def messages(self, subject: str = ">") -> AsyncIterator[RawStreamMsg]:
        """Every message of these subjects that is stored now, in order."""
        js, sequence = self.nc.jetstream(prefix=self.api, timeout=_TIMEOUT_S), 0
        while True:
            try:
                call = js.get_msg(self.name, seq=sequence + 1, subject=subject, next=True, direct=True)
                message = await answered(call)
            except NotFoundError:
                return
            sequence = message.seq or 0
            yield message

    async def subjects(self, subject: str) -> dict[str, int]:
        """Every subject that has messages, and how many."""
        found: dict[str, int] = {}
        while True:
            request = {"subjects_filter": subject, "offset": len(found)}
            answer = await self._call("STREAM.INFO", request)
            page = answer["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def purge(self, subject: str) -> int:
        """Remove all messages of these subjects; returns how many."""
        return int((await self._call("STREAM.PURGE", {"filter": subject}))["purged"])

    async def delete(self, sequence: int) -> bool:
        """Remove a message and overwrite what it held. False: it was gone."""
        try:
            await self._call("STREAM.MSG.DELETE", {"seq": sequence})
        except NotFoundError:
            return False
        return True

    async def _call(self, call: str, request: dict[str, object]) -> Any:
        subject = f"{self.api}.{call}.{self.name}"
        reply = await answered(self.nc.request(subject, json.dumps(request).encode(), timeout=_TIMEOUT_S))
        answer = json.loads(reply.data)
        if "error" in answer:
            if answer["error"].get("err_code") in (10043, 10057, 10059):  # no such message, no such stream
                raise NotFoundError
            raise APIError.from_error(answer["error"])
        return answer
