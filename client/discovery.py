"""NATS service discovery: who is there. A plain request with many answers, so that any client can do the same."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from client.errors import Unreachable
from shared.addresses import servers, shown

if TYPE_CHECKING:
    from nats.aio.client import Client

PREFIX = "penstock-"  # of the names of services

T = TypeVar("T")


class Pong(Struct):
    """What a NATS service answers to `$SRV.PING`. One answer a replica."""

    name: str
    id: str
    version: str = ""
    metadata: dict[str, str] = {}


class Endpoint(Struct):
    """One subject of a service, and what it has done so far. Times in nanoseconds."""

    name: str
    subject: str
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    average_processing_time: int = 0


class Stats(Pong):
    """What a NATS service answers to `$SRV.STATS`."""

    started: str = ""
    endpoints: list[Endpoint] = []


async def discover(
    nc: "Client", verb: Literal["PING", "STATS"], kind: type[T], listen_s: float = 0.4, enough: int = 0
) -> list[T]:
    """What all services answer; see `answers`."""
    return await answers(nc, f"$SRV.{verb}", kind, listen_s, enough)


async def answers(nc: "Client", subject: str, kind: type[T], listen_s: float, enough: int = 0) -> list[T]:
    """What everybody answers to a request; listens for `listen_s` seconds, or until `enough` answers are there (0: no
    matter)."""
    found: list[T] = []
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    await nc.publish(subject, b"", reply=inbox)
    try:
        async with asyncio.timeout(listen_s):
            async for message in subscription.messages:
                if message.data:
                    found.append(msgspec.json.decode(message.data, type=kind))
                if enough and len(found) >= enough:
                    break
    except TimeoutError:
        pass
    finally:
        await subscription.unsubscribe()
    return found


async def _blame_tls(url: str, reason: Exception) -> None:
    """Raises TlsError where a connection failed for want of a certificate of ours."""
    if url.startswith("tls:") and "authorization" not in str(reason).lower():
        from shared.tls import Tls, blame_tls

        with suppress(OSError):
            await blame_tls(url, Tls.from_environment())


async def tls_options(url: str) -> dict[str, Any]:
    """The arguments of `nats.connect` for TLS, by the address and the environment. Raises Unreachable, and what
    `shared.tls` says of certificates."""
    if not url.startswith("tls:") and "PENSTOCK_CA_FILE" not in os.environ:
        return {}
    from shared.connect import nats_options  # what TLS needs is loaded where it is used
    from shared.tls import Tls, nats_tls

    try:
        return nats_options(await nats_tls(url, Tls.from_environment()))
    except OSError as error:
        raise Unreachable(f"no NATS server answers at {shown(url)} ({error}); start one with: penstock up") from None


@asynccontextmanager
async def connected(url: str, timeout_s: int = 2) -> AsyncIterator["Client"]:
    """A connection that does not come back by itself; raises Unreachable where nobody answers."""
    import nats
    from nats.errors import Error, NoServersError

    reason: Exception = NoServersError()

    async def remember(error: Exception) -> None:
        nonlocal reason
        reason = error

    try:
        secure = await tls_options(url)
        nc = await nats.connect(
            servers(url),
            connect_timeout=timeout_s,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # nats-py takes 0 for "for ever", also here, before the first connection
            reconnect_time_wait=0,
            error_cb=remember,
            **secure,
        )
    except NoServersError:
        await _blame_tls(url, reason)
        raise Unreachable(f"no NATS server answers at {shown(url)} ({reason}); start one with: penstock up") from None
    except (Error, OSError, ValueError) as error:
        await _blame_tls(url, error)
        raise Unreachable(f"NATS at {shown(url)} refuses: {error}") from None
    try:
        yield nc
    finally:
        await nc.close()
