"""Redis behind an address: one server; several, of which one is the primary; or Sentinels, who know which one is.

    redis://user:word@a:6379/0
    redis://user:word@a:6379,b:6379/0                      whoever says that it is the primary
    redis+sentinel://user:word@a:26379,b:26379/name/0      whoever the Sentinels say; they are asked without a password

Whoever connects asks again who the primary is, so clients follow a replica that was promoted, by Sentinels or by hand.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from shared.errors import PenstockError

_SENTINEL = "redis+sentinel"
_ASK_S = 2.0
_PORT = 6379

Address = tuple[str, int]


def redis_client(url: str, **options: Any) -> "Redis":
    """A client of whoever is the primary; `options` are those of connections. Raises PenstockError for a wrong URL."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    addresses = [_address(host) for host in hosts.split(",")]
    if parts.scheme != _SENTINEL and len(addresses) == 1:
        return Redis.from_url(url, **options)
    name, database = _path(parts.path) if parts.scheme == _SENTINEL else ("", parts.path)
    scheme = "redis" if parts.scheme == _SENTINEL else parts.scheme
    first = f"{addresses[0][0]}:{addresses[0][1]}"
    known = dict(parse_url(f"{scheme}://{credentials}{at}{first}{database}{'?' if parts.query else ''}{parts.query}"))
    del known["host"], known["port"]
    known["ssl"] = known.pop("connection_class", None) is SSLConnection
    asking = {"socket_timeout": _ASK_S, "socket_connect_timeout": _ASK_S}
    manager: Sentinel | _Primary = _Primary(addresses, known | options | asking)
    if name:
        manager = Sentinel(addresses, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's own
    pool = SentinelConnectionPool(name, manager, **known, **options)  # type: ignore[no-untyped-call]  # the same
    return Redis.from_pool(pool)


@dataclass(frozen=True)
class _Primary:
    """Asks each server whether it is the primary. Stands where redis-py's pool expects a Sentinel."""

    addresses: list[Address]
    options: dict[str, Any]

    async def discover_master(self, name: str) -> Address:
        """Raises MasterNotFoundError where none is, or more than one: then somebody has to decide."""
        found = []
        for host, port in self.addresses:
            async with Redis(host=host, port=port, **self.options) as server:
                try:
                    role = await server.role()
                except (RedisConnectionError, RedisTimeout):
                    continue
            if role[0] in (b"master", "master"):
                found.append((host, port))
        if len(found) != 1:
            shown = ", ".join(f"{host}:{port}" for host, port in found or self.addresses)
            raise MasterNotFoundError(f"{'more than one' if found else 'no'} primary among {shown}")
        return found[0]


def _path(path: str) -> tuple[str, str]:
    """The name that Sentinels know the servers by, and the rest: `/<database>` or nothing."""
    name, slash, database = path.removeprefix("/").partition("/")
    if not name:
        raise PenstockError(f"PENSTOCK_REDIS_URL: expected {_SENTINEL}://host:port,…/<name>/<database>, got no name")
    return name, slash + database


def _address(host: str) -> Address:
    name, _, port = host.rpartition(":")
    return (name, int(port)) if name else (host, _PORT)
