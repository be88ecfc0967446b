"""Follows the queues of submissions: JOBS, or one of each tenant, where a tenant may join while route runs."""

from services.route.adapters.opener import Opener
from shared.bus import Bus
from shared.joining import keep_looking
from shared.pull import Pull


class Intake:
    """Pulls from every queue that there is; `pulls` gets each started loop."""

    def __init__(self, bus: Bus, opener: Opener, pulls: list[Pull]) -> None:
        self._bus = bus
        self._opener = opener
        self._pulls = pulls
        self._known: set[str] = set()

    async def look(self) -> None:
        """Begin to pull from queues that are new. Raises Retryable."""
        for queue in await self._bus.queues():
            if queue not in self._known:
                self._pulls.append(await self._opener.pull(queue))
                self._known.add(queue)

    async def run(self) -> None:
        """Pull from the queues of tenants that join."""
        await keep_looking(self._bus, self.look, "queues")
