"""Connecting: services wait for NATS and Redis with one clear line, instead of dying when they start first."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import nats
from nats.errors import Error as NatsError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, RedisError

from shared.addresses import servers, shown
from shared.errors import PenstockError
from shared.redis_servers import redis_client
from shared.tls import NO_TLS, NatsTls, Tls, blame_tls, check_tls, nats_tls

log = logging.getLogger("penstock.connect")

_PAUSE_S = 0.25
_SAY_EVERY = 20


class WrongCredentials(PenstockError):
    """The server is there and refuses us."""


async def wait_for_nats(url: str, tls: Tls = NO_TLS) -> NatsTls | None:
    """Return once a server of these takes connections, with what they need; says so now and then while it does not.

    Raises WrongCredentials, and TlsError where certificates do not do.
    """
    tries = 0
    while True:
        try:
            secure = await nats_tls(url, tls)
            connection = await nats.connect(
                servers(url),
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=_silent,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                **nats_options(secure),
            )
        except (NatsError, OSError) as error:
            if "authorization" in str(error).lower():
                raise WrongCredentials(f"NATS at {shown(url)} refuses the credentials") from None
            with suppress(OSError):
                await blame_tls(url, tls)
            _say(tries, f"waiting for NATS at {shown(url)}: start it, or set PENSTOCK_NATS_URL")
        else:
            await connection.close()
            return secure
        tries += 1
        await asyncio.sleep(_PAUSE_S)


def nats_options(secure: NatsTls | None) -> dict[str, Any]:
    """The arguments of `nats.connect` for TLS."""
    return {"tls": secure.context, "tls_handshake_first": secure.first} if secure else {}


def redis_options(url: str, tls: Tls) -> dict[str, Any]:
    """The arguments of `Redis.from_url` for TLS."""
    if not url.startswith("rediss:"):
        return {}
    files = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.cert_file, "ssl_keyfile": tls.key_file}
    return {name: str(file) for name, file in files.items() if file} | {"ssl_check_hostname": True}


async def redis_ready(url: str, tls: Tls = NO_TLS) -> "Redis":
    """A client whose server answers. Raises WrongCredentials, and TlsError where certificates do not do."""
    redis = redis_client(
        url, socket_timeout=10, socket_connect_timeout=2, max_connections=256, **redis_options(url, tls)
    )
    tries = 0
    while True:
        await check_tls("Redis", url, tls)
        try:
            await redis.ping()
        except AuthenticationError:
            raise WrongCredentials(f"Redis at {shown(url)} refuses the credentials") from None
        except RedisError:
            _say(tries, f"waiting for Redis at {shown(url)}: start it, or set PENSTOCK_REDIS_URL")
        else:
            redis.set_retry(_patience())
            return redis
        tries += 1
        await asyncio.sleep(_PAUSE_S)


def _patience() -> Retry:
    """Sit out a restart of Redis, about half a minute: shorter outages shall not use up the attempts of tasks."""
    return Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=45)


def _say(tries: int, what: str) -> None:
    if tries % _SAY_EVERY == 0:
        log.warning("%s", what)


async def _silent(_: Exception) -> None:
    """Failed attempts are said by `_say`, not by the library."""
