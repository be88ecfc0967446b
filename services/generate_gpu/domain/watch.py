"""Work that is given up when nobody can use it any more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from shared.errors import ItemError

T = TypeVar("T")

_LOOK_EVERY_S = 0.25


async def unless(given_up: Callable[[], ItemError | None], work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; aborts it and raises as soon as `given_up` says why.

    Asked every quarter of a second, so a deadline is kept within that.
    """
    running = asyncio.ensure_future(work)
    try:
        while not running.done():
            reason = given_up()
            if reason is not None:
                raise reason
            await asyncio.wait({running}, timeout=_LOOK_EVERY_S)
        return running.result()
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
