"""The pull loop: asks a JetStream consumer for no more messages than there are free slots.

FastStream's pull subscriber fetches more than its workers can take (its issue 2563) and nats-py's fetch can stay deaf
after a server restart (its issue 504), so Penstock owns this loop; docs/decisions/0001 says how it was tried.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

from shared.bus import Bus, answered

log = logging.getLogger("penstock.pull")

_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
_DEAF_S = 3 * _HEARTBEAT_S
_PAUSE_S = 0.2
_ABORT_S = 1.0  # what a cancelled handler may take to close its connections


@dataclass(frozen=True)
class Consumer:
    """Where to pull from."""

    stream: str
    durable: str


class Pull:
    """Delivers messages of one consumer to `handle`, at most `slots` at a time.

    `handle` must settle its message and must not raise. Start it again with `resume` after a reconnect: requests that
    the old connection left behind are forgotten together with their inbox.
    """

    def __init__(self, nc: Client, consumer: Consumer, slots: int, handle: Callable[[Msg], Awaitable[None]]) -> None:
        self._nc = nc
        self._consumer = consumer
        self._slots = slots
        self._handle = handle
        self._asked = 0  # messages asked for and not yet delivered
        self._running: dict[asyncio.Task[None], Msg] = {}
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._requests = 0
        self._heard = 0.0
        self._stopped = False
        self._watch: asyncio.Task[None] | None = None
        self._resuming = asyncio.Lock()

    async def start(self) -> None:
        await self.resume()
        self._watch = asyncio.create_task(self._resume_when_deaf())

    async def resume(self) -> None:
        """Listen on a fresh inbox and ask anew."""
        async with self._resuming:
            if self._stopped:
                return
            old, self._subscription = self._subscription, None
            if old is not None:
                await _quietly(old.unsubscribe())
            self._inbox = self._nc.new_inbox()
            self._asked = 0
            self._heard = asyncio.get_running_loop().time()
            self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._deliver)
            await self._ask()

    async def stop(self) -> None:
        """Take nothing new, but what was on its way to us: it would come back only after `ack_wait`."""
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
        old, self._subscription = self._subscription, None
        if old is not None:
            await _quietly(old.drain())  # type: ignore[no-untyped-call]  # nats-py leaves it untyped

    async def drain(self, timeout_s: float) -> None:
        """Stop, and wait for what runs. Whatever is not done then is cancelled and given to others at once."""
        await self.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
            late = dict(self._running)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_ABORT_S)
                await give_back(late.values())

    async def abandon(self) -> None:
        """Give all that runs to others now; for a process that ends with the next breath."""
        self._stopped = True
        await give_back(self._running.values())

    async def _ask(self) -> None:
        """Ask for what is free; for several at once while the server still owes some, as a request is a message too."""
        free = self._slots - len(self._running) - self._asked
        worth = 1 if not self._asked else max(1, self._slots // 2)
        if free < worth or self._stopped or not self._nc.is_connected:
            return
        self._asked += free
        self._requests += 1
        request = {"batch": free, "expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
        await _quietly(
            self._nc.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._consumer.stream}.{self._consumer.durable}",
                msgspec.json.encode(request),
                reply=f"{self._inbox}.{self._requests}",
            )
        )

    async def _deliver(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        status = (message.headers or {}).get("Status")
        if status is not None and not message.reply.startswith("$JS.ACK"):
            await self._hear(status, message)
            return
        self._asked = max(0, self._asked - 1)
        task = asyncio.create_task(self._run(message))
        self._running[task] = message
        task.add_done_callback(lambda done: self._running.pop(done, None))

    async def _run(self, message: Msg) -> None:
        try:
            await self._handle(message)
        finally:
            if (task := asyncio.current_task()) is not None:
                self._running.pop(task, None)
            await self._ask()

    async def _hear(self, status: str, message: Msg) -> None:
        """100: alive. 404, 408: a request ended. 409, 503: the consumer is busy or away, so ask again a little later.

        A request that ends says how many of its messages it did not deliver.
        """
        if status == "100":
            return
        left = (message.headers or {}).get("Nats-Pending-Messages")
        self._asked = max(0, self._asked - int(left)) if left else 0
        if status not in ("404", "408"):
            log.info("pull %s: %s %s", self._consumer.durable, status, (message.headers or {}).get("Description", ""))
            await asyncio.sleep(_PAUSE_S)
        await self._ask()

    async def _resume_when_deaf(self) -> None:
        """No heartbeat for a while means that the server has forgotten our requests."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            silent = asyncio.get_running_loop().time() - self._heard
            if self._nc.is_connected and self._asked and silent > _DEAF_S:
                log.warning("pull %s: nothing heard for %.0f s, asking anew", self._consumer.durable, silent)
                await _quietly(self.resume())
            await self._ask()  # slots that became free while the connection was away


async def give_back(messages: Iterable[Msg]) -> None:
    """Let the server deliver these again, to somebody else; those that are settled already stay so."""
    for message in list(messages):
        await _quietly(message.nak())


async def pulling(
    bus: Bus, stream: str, config: ConsumerConfig, slots: int, handle: Callable[[Msg], Awaitable[None]]
) -> Pull:
    """A started pull loop over a durable consumer, which is created where it is missing. Raises Retryable."""
    await answered(bus.js.add_consumer(stream, config))
    assert config.durable_name, "a consumer without a name would be forgotten with its process"
    pull = Pull(bus.nc, Consumer(stream, config.durable_name), slots, handle)
    await pull.start()
    return pull


async def _quietly(call: Awaitable[None]) -> None:
    """A lost connection is no news here: the reconnect calls `resume`."""
    try:
        await call
    except NatsError as error:
        log.debug("pull: %s", error)
