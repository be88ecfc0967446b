"""Batch work lets those who wait go first, and goes on all the same."""

import asyncio
import time

import pytest

from shared import turns as turns_module
from shared.turns import Turns


async def test_batch_waits_while_somebody_is_served() -> None:
    turns = Turns()
    with turns.served("interactive"):
        waiting = asyncio.create_task(turns.give_way("batch"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await asyncio.wait_for(turns.give_way("interactive"), 1)
    await asyncio.wait_for(waiting, 1)


async def test_batch_does_not_wait_for_batch_nor_for_nobody() -> None:
    turns = Turns()
    with turns.served("batch"):
        await asyncio.wait_for(turns.give_way("batch"), 0.2)


async def test_batch_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_PATIENCE_S", 0.05)
    turns = Turns()
    with turns.served("interactive"):
        began = time.monotonic()
        await turns.give_way("batch")
        assert time.monotonic() - began >= 0.05


async def test_a_handler_that_fails_is_served_no_longer() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.served("interactive"):
        raise ZeroDivisionError
    await asyncio.wait_for(turns.give_way("batch"), 0.2)
