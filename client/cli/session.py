"""Runs a command's work on a connection to the stack."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from client.cli.options import address
from client.client import Penstock

T = TypeVar("T")


def talk(data: Path | None, nats_url: str, tenant: str, body: Callable[[Penstock], Awaitable[T]]) -> T:
    """Connect, run `body`, disconnect. Raises Unreachable, and what `body` raises."""
    url = address(data, nats_url)

    async def run() -> T:
        async with await Penstock.connect(url, tenant) as penstock:
            return await body(penstock)

    return asyncio.run(run())
