"""What `penstock doctor` looks at. Each check says how it is and, where something is wrong, what to do."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from client.client import Penstock
from client.discovery import PREFIX, Pong, connected, discover
from client.errors import StackError
from client.overview import find_breakers
from client.stack import StackInfo, status
from client.stack.config import nats_binary, redis_binary
from client.stack.info import load, socket_folder
from client.stack.ports import free_ports
from contracts.subjects import JOBS, STREAMS
from shared.errors import PenstockError, Retryable

PYTHON = (3, 11)
NATS = (2, 12)  # scheduled messages
FREE_BYTES = 5e9
MODEL = Path("models") / "all-MiniLM-L6-v2-int8"
MODEL_FILES = {"model.onnx": 1_000_000, "tokenizer.json": 10_000}  # name and least size in bytes


class Check(Struct, frozen=True):
    """One line: what was looked at, whether it is well, what was found, and what to do."""

    name: str
    ok: bool
    found: str
    todo: str = ""


def machine(data: Path) -> list[Check]:
    """What must be there before a stack can start."""
    return [_python(), _binary("nats-server"), _binary("redis-server"), _encoder(), _ports(), _sockets(), _disk(data)]


async def stack(data: Path) -> AsyncIterator[Check]:
    """What a running stack must answer."""
    info = status(data)
    if info is None:
        crashed = load(data) is not None
        yield Check(
            "stack", not crashed, "it has crashed" if crashed else "not started; to start: penstock up", "penstock up"
        )
        return
    bad = [process.name for process in info.processes if process.state != "RUNNING"]
    found = f"{len(info.processes)} processes run" if not bad else f"{', '.join(bad)} do not run"
    yield Check("stack", not bad, found, f"see {data / 'logs'}" if bad else "")
    redis = await _redis(info.redis_url)
    yield redis
    if redis.ok:
        yield await _models(info.redis_url)
    try:
        async for check in _nats(info):
            yield check
    except PenstockError as error:
        yield Check("NATS", False, str(error), f"see {data / 'logs' / 'nats.log'}")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", sys.version_info >= PYTHON, version, "install Python 3.11 or newer, then: make setup")


def _binary(name: str) -> Check:
    try:
        path = nats_binary() if name == "nats-server" else redis_binary()
        run = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except StackError as error:
        return Check(name, False, str(error), "make setup")
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, f"does not run: {error}", "make setup, on a platform that the package supports")
    return Check(name, True, run.stdout.strip().splitlines()[0][:80])


def _encoder() -> Check:
    import shared

    folder = Path(shared.__file__).parent / MODEL
    bad = [name for name, least in MODEL_FILES.items() if not _large_enough(folder / name, least)]
    if bad:
        return Check(
            "encoder", False, f"missing or cut short: {', '.join(bad)} in {folder}", "git checkout shared/models"
        )
    return Check("encoder", True, str(folder))


def _large_enough(file: Path, least: int) -> bool:
    return file.is_file() and file.stat().st_size >= least


def _ports() -> Check:
    try:
        return Check("ports", True, f"free, for example {', '.join(map(str, free_ports((0, 0))))}")
    except StackError as error:
        return Check("ports", False, str(error), "end what holds them")


def _sockets() -> Check:
    try:
        return Check("sockets", True, str(socket_folder()))
    except (StackError, OSError) as error:
        return Check("sockets", False, str(error), "set TMPDIR to a folder of your own with a short path")


def _disk(data: Path) -> Check:
    existing = next(folder for folder in (data, *data.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        "disk", free >= FREE_BYTES, f"{free / 1e9:.1f} GB free at {existing}", "free 5 GB, or choose another --data"
    )


async def _redis(url: str) -> Check:
    try:
        async with Redis.from_url(url, socket_connect_timeout=2) as redis:
            found = await redis.info("persistence")
    except RedisError as error:
        return Check("Redis", False, str(error), "penstock down, then penstock up")
    good = bool(found["aof_enabled"]) and found.get("aof_last_write_status") == "ok"
    said = (
        "keeps its data (AOF)" if good else f"aof_enabled={found['aof_enabled']}, {found.get('aof_last_write_status')}"
    )
    return Check("Redis", good, said, "free disk space, then: penstock down, penstock up")


async def _models(url: str) -> Check:
    try:
        away = await find_breakers(url)
    except Retryable as error:
        return Check("models", False, str(error), "penstock down, then penstock up")
    said = "; ".join(f"{breaker.model} is left alone: {breaker.why}" for breaker in away) or "no breaker is open"
    return Check("models", not away, said, "its fallbacks answer meanwhile; look at the model's endpoint")


async def _nats(info: StackInfo) -> AsyncIterator[Check]:
    async with connected(info.operator_url) as nc:
        version = nc.connected_server_version
        new_enough = (version.major, version.minor) >= NATS
        yield Check("NATS", new_enough, f"{version.major}.{version.minor}.{version.patch}", "needs 2.12: make setup")
        pongs = await discover(nc, "PING", Pong)
        silent = sorted(set(info.services) - {pong.name.removeprefix(PREFIX) for pong in pongs})
        said = f"{', '.join(silent)} do not answer" if silent else f"all {len(info.services)} answer"
        yield Check("services", not silent, said, f"see {Path(info.data) / 'logs'}" if silent else "")
    async with await Penstock.connect(info.operator_url) as penstock:
        yield await _streams(penstock)


async def _streams(penstock: Penstock) -> Check:
    names = {stream.config.name or "" for stream in await penstock.bus.js.streams_info()}
    names |= {JOBS.name} if any(name.startswith(f"{JOBS.name}_") for name in names) else set()  # one of each tenant
    missing = [stream.name for stream in STREAMS if stream.name not in names]
    said = f"missing: {', '.join(missing)}" if missing else f"all {len(STREAMS)} are there"
    return Check("streams", not missing, said, "the services make them: penstock down, penstock up")
