"""Connecting: services wait for NATS and Redis with one clear line, instead of dying when they start first."""

import asyncio
import logging

import nats
from nats.errors import Error as NatsError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, RedisError

from shared.addresses import servers, shown
from shared.errors import PenstockError
from shared.redis_servers import redis_client

log = logging.getLogger("penstock.connect")

_PAUSE_S = 0.25
_SAY_EVERY = 20


class WrongCredentials(PenstockError):
    """The server is there and refuses us."""


async def wait_for_nats(url: str) -> None:
    """Return once a server of these takes connections; says so now and then while it does not."""
    tries = 0
    while True:
        try:
            connection = await nats.connect(
                servers(url),
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=_silent,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
            )
        except (NatsError, OSError) as error:
            if "authorization" in str(error).lower():
                raise WrongCredentials(f"NATS at {shown(url)} refuses the credentials") from None
            _say(tries, f"waiting for NATS at {shown(url)}: start it, or set PENSTOCK_NATS_URL")
        else:
            await connection.close()
            return
        tries += 1
        await asyncio.sleep(_PAUSE_S)


async def redis_ready(url: str) -> "Redis":
    """A client whose server answers."""
    redis = redis_client(url, socket_timeout=10, socket_connect_timeout=2, max_connections=256)
    tries = 0
    while True:
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
