"""The stack and the scripted model as tests see them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from client.stack import StackInfo
from contracts.item import Usage
from loadtest.scripted_model import ScriptedModel

PROMPT, CACHED, COMPLETION = 1.00, 0.25, 2.00  # US dollars per million tokens of the scripted model
SLOTS = 4  # shards of the batch lane that generate works on at the same time


@dataclass(frozen=True)
class Running:
    """The stack, and the model that its generate service calls."""

    info: StackInfo
    server: ScriptedModel

    @property
    def data(self) -> Path:
        return Path(self.info.data)

    def log(self, service: str) -> str:
        return (self.data / "logs" / f"{service}.log").read_text(errors="replace")


class Script:
    """The scripted model as one test sees it: without what others have asked of it, and without their rules."""

    def __init__(self, server: ScriptedModel) -> None:
        self._server = server
        self._aborted = server.aborted
        server.rules.clear()
        server.requests.clear()
        self.when = server.when
        self.calls = server.calls
        self.requests = server.requests

    @property
    def aborted(self) -> int:
        return self._server.aborted - self._aborted

    async def until(self, happened: Callable[["Script"], bool], timeout_s: float = 30) -> None:
        await eventually(lambda: happened(self), timeout_s)


async def eventually(happened: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait until this is true; fails where it does not become so."""
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.05)


def spent(prompt: int, completion: int, calls: int, cached: int = 0) -> Usage:
    """What so many tokens of the scripted model come to; `cached` are part of the prompt."""
    dollars = ((prompt - cached) * PROMPT + cached * CACHED + completion * COMPLETION) / 1_000_000
    return Usage(prompt, cached, completion, calls, round(dollars, 9))


def rounded(usage: Usage) -> Usage:
    """Without the last digits of a sum of many fractions."""
    return replace(usage, cost_usd=round(usage.cost_usd, 9))
