"""What an operator asks of retrieve by NATS: to fill engines anew, and how far that is."""

from dataclasses import dataclass

import msgspec
from msgspec.structs import replace
from nats.aio.msg import Msg

from contracts.reindex import Reindex
from contracts.subjects import ALL_REPLICAS, reindex
from services.retrieve.adapters.reindex import Reindexer
from shared.bus import Bus
from shared.errors import Rejected


@dataclass(frozen=True)
class Orders:
    """Answers on `reindex.<replica>`, and on `reindex.all`, where every replica answers."""

    bus: Bus
    reindexer: Reindexer

    async def listen(self) -> None:
        replica = self.reindexer.state.replica
        for subject in (reindex(replica), reindex(ALL_REPLICAS)):
            await self.bus.nc.subscribe(subject, cb=self.answer)

    async def answer(self, message: Msg) -> None:
        """Reply with a Reindexing; an order that cannot be followed is one that has failed."""
        state = self.reindexer.state
        try:
            order = msgspec.json.decode(message.data or b"{}", type=Reindex)
            if order.to is not None:
                state = self.reindexer.start(order.to)
        except msgspec.MsgspecError as error:
            state = replace(state, state="failed", reason=f"not a Reindex: {error}")
        except Rejected as error:
            state = replace(state, state="failed", reason=str(error))
        if message.reply:
            await self.bus.nc.publish(message.reply, msgspec.json.encode(state))
