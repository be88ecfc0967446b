"""Tenants may join while a service runs: what each has one of is looked for again and again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from shared.bus import Bus
from shared.errors import Retryable

log = logging.getLogger("penstock.joining")

_LOOK_S = 5.0


async def keep_looking(bus: Bus, look: Callable[[], Awaitable[None]], what: str) -> None:
    """Look now and then; without accounts there is one for all, and nothing to look for."""
    while bus.accounts:
        await asyncio.sleep(_LOOK_S)
        try:
            await look()
        except Retryable as error:
            log.warning("looking for %s: %s", what, error)
