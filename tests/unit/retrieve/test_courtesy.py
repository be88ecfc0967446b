"""Indexing steps aside for questions, but not for ever."""

import asyncio

from services.retrieve.domain.courtesy import Courtesy


async def test_nobody_asks_nobody_waits() -> None:
    await asyncio.wait_for(Courtesy().give_way(at_most_s=60), 5)


async def test_indexing_waits_until_all_questions_are_answered() -> None:
    courtesy = Courtesy()
    with courtesy.asking():
        with courtesy.asking():
            waiting = asyncio.create_task(courtesy.give_way(at_most_s=60))
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


async def test_under_constant_questions_indexing_goes_on() -> None:
    courtesy = Courtesy()
    with courtesy.asking():
        await asyncio.wait_for(courtesy.give_way(at_most_s=0.01), 5)
