"""Checks of servers, each on its own: down, hanging, slow, of the wrong version, with wrong credentials, with another
clock. One line each, which names the server and what to do."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from client.discovery import connected
from client.errors import Unreachable
from client.stack.secrets import OPERATOR
from contracts.subjects import RESULTS
from shared.addresses import servers, shown
from shared.connect import redis_options
from shared.models import Model
from shared.redis_servers import redis_client
from shared.tls import Tls, TlsError, check_tls

NATS, REDIS, QDRANT, OPENSEARCH = (2, 12), (6, 2), (1, 10), (2, 0)
"""The least versions. NATS: scheduled messages."""
NATS_ACCOUNTS = (2, 14)
"""With an account a tenant: consumers made beforehand feed the tenants' copies."""

TIMEOUT_S = 5.0
SLOW_S = 2.0
SKEW_S = 5.0


class Check(Struct, frozen=True):
    """One line: what was looked at, whether it is well, what was found, and what to do."""

    name: str
    ok: bool
    found: str
    todo: str = ""


class _Greeting(Struct):
    version: str = "0"
    jetstream: bool = False
    tls_required: bool = False


class _Info(Struct):
    ts: datetime | None = None


async def nats_server(url: str) -> Check:
    """The server of this address, as a client that may do everything sees it."""
    greeting = _Greeting("", jetstream=True)
    least = NATS_ACCOUNTS if is_operator(url) else NATS
    try:
        if urlsplit(url).scheme != "tls":
            greeting = await asyncio.wait_for(_greeting(servers(url)[0]), TIMEOUT_S)
        if greeting.version and _older(greeting.version, least):
            return _old("NATS", url, greeting.version, least)
        if not greeting.jetstream:
            return Check("NATS", False, f"{shown(url)}: JetStream is off", "put jetstream {} into its configuration")
        async with connected(url, timeout_s=int(TIMEOUT_S)) as nc:
            version = nc.connected_server_version
            if (version.major, version.minor) < least:
                return _old("NATS", url, str(version), least)
            started = time.monotonic()
            reply = await nc.request(f"$JS.API.STREAM.INFO.{RESULTS.name}", b"", timeout=TIMEOUT_S)
            took = time.monotonic() - started
            there = msgspec.json.decode(reply.data, type=_Info).ts
    except TimeoutError:
        return _hangs("NATS", url)
    except OSError as error:
        return _down("NATS", url, error, "PENSTOCK_NATS_URL")
    except ValueError:
        return Check("NATS", False, f"{shown(url)}: what answers is no NATS server", "look at address and port")
    except TlsError as error:
        return Check("NATS", False, str(error), "see docs/howto/tls.md")
    except Unreachable as error:
        if "authorization" in str(error).lower():
            return _refused("NATS", url, "user or password", "PENSTOCK_NATS_URL")
        return Check("NATS", False, str(error), "look at its log")
    text = f"{version.major}.{version.minor}.{version.patch}, JetStream"
    skew = there.timestamp() - time.time() if there else 0.0
    return _well("NATS", url, text, took, skew)


def is_operator(url: str) -> bool:
    """Whether an address of NATS is that of who runs a stack with an account a tenant."""
    return urlsplit(servers(url)[0]).username == OPERATOR


async def _greeting(url: str) -> _Greeting:
    """Raises OSError, and ValueError where it is not NATS."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
    try:
        line = await reader.readline()
    finally:
        writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError("no greeting")
    return msgspec.json.decode(line[5:], type=_Greeting)


async def redis_server(url: str) -> Check:
    """Redis: it must keep what it is told on disk, and throw nothing away."""
    tls = Tls.from_environment()
    waits = {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": TIMEOUT_S, **redis_options(url, tls)}
    try:
        await check_tls("Redis", url, tls)
        async with redis_client(url, retry=None, **waits) as redis:
            await redis.ping()
            started = time.monotonic()
            await redis.ping()
            took = time.monotonic() - started
            info = await redis.info()
            seconds, micros = await redis.time()
    except TlsError as error:
        return Check("Redis", False, str(error), "see docs/howto/tls.md")
    except (AuthenticationError, NoPermissionError):
        return _refused("Redis", url, "user or password", "PENSTOCK_REDIS_URL")
    except (RedisTimeout, TimeoutError):
        return _hangs("Redis", url)
    except (RedisError, OSError) as error:
        return _down("Redis", url, error, "PENSTOCK_REDIS_URL")
    version = str(info["redis_version"])
    if _older(version, REDIS):
        return _old("Redis", url, version, REDIS)
    if not info.get("aof_enabled"):
        return Check("Redis", False, f"{shown(url)}: keeps nothing on disk (AOF is off)", "appendonly yes")
    if info.get("aof_last_write_status") != "ok":
        return Check("Redis", False, f"{shown(url)}: cannot write its log", "free disk space where its data lies")
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        return Check("Redis", False, f"{shown(url)}: throws keys away ({policy})", "maxmemory-policy noeviction")
    return _well("Redis", url, f"{version}, keeps its data (AOF)", took, seconds + micros / 1e6 - time.time())


class _Version(Struct):
    number: str = "0"


class _OpenSearch(Struct):
    version: _Version


class _Qdrant(Struct):
    version: str


async def qdrant_server(url: str, key: str) -> Check:
    headers = {"api-key": key} if key else {}
    paths, settings = ("/", "/collections"), "PENSTOCK_RETRIEVE_QDRANT_"
    return await _http("Qdrant", url, headers, paths, QDRANT, settings, _qdrant_version)


async def opensearch_server(url: str) -> Check:
    return await _http("OpenSearch", url, {}, ("/",), OPENSEARCH, "PENSTOCK_RETRIEVE_OPENSEARCH_", _opensearch_version)


def _qdrant_version(body: bytes) -> str:
    return msgspec.json.decode(body, type=_Qdrant).version


def _opensearch_version(body: bytes) -> str:
    return msgspec.json.decode(body, type=_OpenSearch).version.number


async def _http(
    name: str,
    url: str,
    headers: dict[str, str],
    paths: Sequence[str],
    least: tuple[int, int],
    variable: str,
    version_of: Callable[[bytes], str],
) -> Check:
    """An engine: its first path says the version, all of them whether we may."""
    tls = Tls.from_environment()
    try:
        await check_tls(name, url, tls)
        verify = tls.context() if url.startswith("https:") else True
        async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, verify=verify) as client:
            answers = [await client.get(url.rstrip("/") + path) for path in paths]
    except TlsError as error:
        return Check(name, False, str(error), "see docs/howto/tls.md")
    except httpx.TimeoutException:
        return _hangs(name, url)
    except (httpx.HTTPError, OSError) as error:
        return _down(name, url, error, f"{variable}URL")
    if any(answer.status_code in (401, 403) for answer in answers):
        return _refused(name, url, "key" if name == "Qdrant" else "user or password", f"{variable}…")
    try:
        version = version_of(answers[0].content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Check(name, False, f"{shown(url)}: what answers is no {name}", f"look at {variable}URL")
    if _older(version, least):
        return _old(name, url, version, least)
    return _well(name, url, version, max(answer.elapsed.total_seconds() for answer in answers))


async def model_endpoint(model: Model) -> Check:
    """An OpenAI-compatible endpoint lists its models to whoever may call them."""
    name, url = f"model {model.name}", str(model.base_url)
    key = os.environ.get(model.api_key_env, "") if model.api_key_env else ""
    if model.api_key_env and not key:
        return Check(name, False, f"{model.api_key_env} is not set", f"export {model.api_key_env}=…")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as client:
            answer = await client.get(f"{url.rstrip('/')}/models")
    except httpx.TimeoutException:
        return _hangs(name, url)
    except (httpx.HTTPError, OSError) as error:
        return _down(name, url, error, "base_url in models.yaml")
    if answer.status_code in (401, 403):
        return _refused(name, url, "key", model.api_key_env or "api_key_env in models.yaml")
    if answer.status_code >= 500:
        return Check(name, False, f"{shown(url)}: answers {answer.status_code}", "look at the endpoint's own status")
    return _well(name, url, "answers", answer.elapsed.total_seconds())


async def all_of(checks: Sequence[Awaitable[Check]]) -> list[Check]:
    """All at the same time: each waits for its own server."""
    return list(await asyncio.gather(*checks))


def _well(name: str, url: str, text: str, took_s: float, skew_s: float = 0.0) -> Check:
    if took_s > SLOW_S:
        return Check(name, False, f"{shown(url)}: slow, took {took_s:.1f} s to answer", "look at its load and its disk")
    if abs(skew_s) > SKEW_S:
        found = f"{shown(url)}: its clock is {skew_s:+.0f} s from this machine's"
        return Check(name, False, found, "set both by NTP: deadlines and schedules go by them")
    return Check(name, True, f"{text} ({shown(url)})")


def _down(name: str, url: str, error: Exception, setting: str) -> Check:
    reason = str(error).strip().partition("\n")[0][:160] or type(error).__name__
    return Check(name, False, f"{shown(url)}: nobody answers ({reason})", f"start it, or set {setting} right")


def _hangs(name: str, url: str) -> Check:
    found = f"{shown(url)}: takes connections and says nothing within {TIMEOUT_S:g} s"
    return Check(name, False, found, "it hangs or has too much to do: look at its log, restart it")


def _refused(name: str, url: str, what: str, setting: str) -> Check:
    return Check(name, False, f"{shown(url)}: turns {what} down", f"set {setting} right")


def _old(name: str, url: str, version: str, least: tuple[int, int]) -> Check:
    wanted = ".".join(map(str, least))
    return Check(name, False, f"{shown(url)}: is {version}, expected {wanted} or newer", f"upgrade {name}")


def _older(version: str, least: tuple[int, int]) -> bool:
    numbers = [0, 0]
    with suppress(ValueError):
        numbers = [int(part) for part in version.lstrip("v").split("-")[0].split(".")[:2]]
    return tuple(numbers) < least
