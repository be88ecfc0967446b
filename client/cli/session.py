"""Runs a command's work on a connection to the stack."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from client.cli.options import address, operator_address
from client.client import Penstock

T = TypeVar("T")


def talk(data: Path | None, nats_url: str, tenant: str, body: Callable[[Penstock], Awaitable[T]]) -> T:
    """Connect, run `body`, disconnect. Raises Unreachable, and what `body` raises."""
    return _run(address(data, nats_url, tenant), tenant, body)


def operate(data: Path | None, nats_url: str, body: Callable[[Penstock], Awaitable[T]]) -> T:
    """The same for who runs the stack: on the account of the services."""
    return _run(operator_address(data, nats_url), "default", body)


def _run(url: str, tenant: str, body: Callable[[Penstock], Awaitable[T]]) -> T:
    async def run() -> T:
        async with await Penstock.connect(url, tenant) as penstock:
            return await body(penstock)

    return asyncio.run(run())
