"""Has a running retrieve fill search engines anew, and follows it."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NoAnswer

from client.discovery import answers
from client.errors import StackError, Unreachable, UsageError
from contracts.reindex import Engines, Reindex, Reindexing
from contracts.subjects import ALL_REPLICAS, reindex
from shared.errors import PenstockError

if TYPE_CHECKING:
    from nats.aio.client import Client

VECTORS = ("edge", "qdrant")
WORDS = ("edge", "qdrant", "opensearch")
LISTEN_S = 0.4
LOOK_EVERY_S = 0.2
SILENT_S = 30.0
"""A retrieve that encodes a long passage may answer late; one that is silent for so long has ended."""


class ReindexFailed(PenstockError):
    """The engines could not be filled; the text is retrieve's reason. Those of before go on serving."""


def read_engines(text: str, serving: Engines) -> Engines:
    """`vectors=qdrant,words=opensearch`, one of the two, or one engine for both; empty: the engines that serve.

    Raises UsageError.
    """
    if text in VECTORS:
        return Engines(text, text)
    found = {"vectors": serving.vectors, "words": serving.words}
    for part in filter(None, text.split(",")):
        what, _, engine = part.strip().partition("=")
        known = {"vectors": VECTORS, "words": WORDS}.get(what, ())
        if engine not in known:
            hint = " (it holds words only: words=opensearch)" if part == "opensearch" else ""
            raise UsageError(
                f"--to {text}: expected edge or qdrant, or vectors=edge|qdrant and words=edge|qdrant|opensearch, "
                f"separated by a comma, got {part!r}{hint}"
            )
        found[what] = engine
    return Engines(**found)


async def run(nc: "Client", to: str, report: Callable[[Reindexing], None]) -> Reindexing:
    """Start it, or join where it is under way; returns when the new engines serve. `report` gets every state.

    Raises UsageError, Unreachable where no retrieve answers, StackError where it ends meanwhile, ReindexFailed.
    """
    replicas = await answers(nc, reindex(ALL_REPLICAS), Reindexing, LISTEN_S)
    if not replicas:
        raise Unreachable("no retrieve answers; see: penstock status")
    busy = [state for state in replicas if state.state in ("filling", "catching up")]
    chosen = (busy or replicas)[0]
    engines = read_engines(to, chosen.serving)
    if len(replicas) > 1 and engines != chosen.serving:
        raise UsageError(
            f"--to {to}: {len(replicas)} replicas of retrieve run, and only one would change its engines: name them in "
            "PENSTOCK_RETRIEVE_VECTORS and PENSTOCK_RETRIEVE_WORDS of all, or run one while they are filled"
        )
    state = await _ask(nc, chosen.replica, Reindex(to=engines))
    while state.state in ("filling", "catching up"):
        report(state)
        await asyncio.sleep(LOOK_EVERY_S)
        state = await _ask(nc, chosen.replica, Reindex())
    report(state)
    if state.state != "done":
        raise ReindexFailed(f"{state.reason}; the engines of before go on serving")
    return state


async def _ask(nc: "Client", replica: str, order: Reindex) -> Reindexing:
    until = time.monotonic() + SILENT_S
    while True:
        try:
            answer = await nc.request(reindex(replica), msgspec.json.encode(order), timeout=SILENT_S)
            return msgspec.json.decode(answer.data, type=Reindexing)
        except (NoRespondersError, NoAnswer):
            if time.monotonic() > until or order.to is None:
                raise StackError(
                    "retrieve has ended while it filled the engines: those of before serve when it is back; see its "
                    "log, then run the command again"
                ) from None
            await asyncio.sleep(LOOK_EVERY_S)
