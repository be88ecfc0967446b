"""When an engine is taken for hung: by its steps, while somebody waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from services.generate_gpu.engines.vllm_pulse import Pulse

SILENCE_S = 0.08


class Outputs:
    """Of an engine, one for each number put in."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[int]()

    async def __aiter__(self) -> AsyncIterator[int]:
        while True:
            yield await self.queue.get()


async def _read(pulse: Pulse, outputs: Outputs, pause_s: float = 0.0) -> None:
    async for _ in pulse.waited(aiter(outputs)):
        await asyncio.sleep(pause_s)


async def _stops(pulse: Pulse, within_s: float) -> bool:
    try:
        await asyncio.wait_for(pulse.stops(), within_s)
    except TimeoutError:
        return False
    return True


async def test_a_call_that_waits_while_nothing_happens_shows_it() -> None:
    pulse = Pulse(SILENCE_S)
    call = asyncio.create_task(_read(pulse, Outputs()))
    assert await _stops(pulse, 30)
    call.cancel()


async def test_short_calls_show_it_too() -> None:
    """Each gives up long before the silence is over, and between them nobody waits."""
    pulse, outputs = Pulse(SILENCE_S), Outputs()

    async def ask_again() -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(_read(pulse, outputs), SILENCE_S / 3)
            await asyncio.sleep(SILENCE_S / 5)

    asking = asyncio.create_task(ask_again())
    assert await _stops(pulse, 30)
    asking.cancel()


async def test_steps_show_that_it_goes_on_though_no_text_comes() -> None:
    pulse = Pulse(SILENCE_S)
    call = asyncio.create_task(_read(pulse, Outputs()))
    watching = asyncio.create_task(pulse.stops())
    for _ in range(60):  # fifteen times the silence; a step in each of its parts
        await asyncio.sleep(SILENCE_S / 4)
        pulse.stepped()
    assert not watching.done()
    await asyncio.wait_for(watching, 30)  # and without them it does not
    call.cancel()


async def test_nobody_waits_for_an_engine_without_calls_nor_while_the_text_is_sent_on() -> None:
    pulse = Pulse(SILENCE_S)
    assert not await _stops(pulse, 6 * SILENCE_S)
    outputs = Outputs()
    outputs.queue.put_nowait(1)
    call = asyncio.create_task(_read(pulse, outputs, pause_s=60))
    assert not await _stops(pulse, 6 * SILENCE_S)
    call.cancel()


async def test_outputs_and_errors_pass() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ValueError("dead")

    pulse = Pulse(SILENCE_S)
    outputs = pulse.waited(failing())
    assert [await anext(outputs), await anext(outputs)] == [1, 2]
    with pytest.raises(ValueError, match="dead"):
        await anext(outputs)
    assert not await _stops(pulse, 6 * SILENCE_S)
