"""The model of a chaos run: scripted, counted item by item, and now and then out of order.

It also paces the job: only so many answers are given as there have been faults, so that faults meet a job at work and
the job does not end before the last of them.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from loadtest.chaos.plan import ModelFault, ModelFaults
from loadtest.scripted_model import Call, Reply, ScriptedModel

PROMPT_PRICE, COMPLETION_PRICE = 1.0, 2.0  # US dollars per million tokens
TIMEOUT_S = 8.0
_HELD_AT_MOST_S = 4.0
_LOOK_S = 0.02

CATALOGUE = """\
models:
  - {{name: extractive, engine: extractive, context: 1000000, default: true}}
  - {{name: noop, engine: noop, context: 1000000}}
  - name: chaotic
    engine: openai
    base_url: {url}
    id: chaotic-1
    context: 32000
    price: {{prompt: {prompt}, completion: {completion}}}
    timeout: {{connect: 2, read: {timeout}, total: {timeout}}}
"""


@dataclass
class ChaoticModel:
    """What it was asked, what it sold, and what it did wrong."""

    faults: ModelFaults
    calls: Counter[int] = field(default_factory=Counter)  # by item
    sold: Counter[int] = field(default_factory=Counter)  # whole answers that were begun to be sent
    done_wrong: Counter[str] = field(default_factory=Counter)
    allowed: float = float("inf")  # answers that may have been given by now
    url: str = ""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def catalogue(self) -> str:
        return CATALOGUE.format(
            url=self.url, prompt=PROMPT_PRICE, completion=COMPLETION_PRICE, timeout=TIMEOUT_S
        )  # fmt: skip

    @asynccontextmanager
    async def running(self, known_as: str = "") -> AsyncIterator[None]:
        """Listen; `known_as` is this machine's name for callers in containers, where it has them."""
        async with ScriptedModel.running("0.0.0.0" if known_as else "127.0.0.1") as server:
            server.answer = self._answer
            self.url = server.url.replace("127.0.0.1", known_as or "127.0.0.1")
            yield

    async def _answer(self, call: Call) -> Reply:
        found = re.search(r"item-(\d+)", call.last)
        if found is None:
            return Reply("no item in this prompt", status=404)
        item = int(found.group(1))
        self.calls[item] += 1
        wrong = self.faults.next()
        if wrong is not None:
            self.done_wrong[f"model: {wrong}"] += 1
            return _wrong(wrong)
        await self._pace()
        self.sold[item] += 1
        return Reply(
            f"The plan says so in what was asked as item-{item}.", prompt_tokens=100 + item % 7, completion_tokens=11
        )

    async def _pace(self) -> None:
        """Wait for a fault, first come first served, but not so long that the caller gives up."""
        until = time.monotonic() + _HELD_AT_MOST_S
        async with self._turn:
            while len(self.sold) >= self.allowed and time.monotonic() < until:  # noqa: ASYNC110  # two conditions
                await asyncio.sleep(_LOOK_S)


def chaotic(seed: int, rate: float) -> ChaoticModel:
    """A model that fails this share of its calls."""
    return ChaoticModel(ModelFaults(random.Random(seed), rate))


def _wrong(fault: ModelFault) -> Reply:
    match fault:
        case "429":
            return Reply("too many requests", status=429, headers={"Retry-After": "1"})
        case "500":
            return Reply("the engine died", status=500)
        case _:
            return Reply("This answer will not arrive in one piece.", fault=fault)
