"""What `penstock doctor` looks at. Each check says how it is and, where something is wrong, what to do."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Collection
from pathlib import Path

from client.cli.options import from_environment
from client.client import Penstock
from client.discovery import PREFIX, Pong, connected, discover
from client.errors import StackError
from client.overview import find_breakers
from client.servers import (
    Check,
    all_of,
    is_operator,
    model_endpoint,
    nats_server,
    opensearch_server,
    qdrant_server,
    redis_server,
)
from client.stack import status
from client.stack.config import SERVICES, nats_binary, redis_binary
from client.stack.info import load, socket_folder
from client.stack.ports import free_ports
from contracts.subjects import CONTROL, JOBS, STREAMS
from services.retrieve.config import RetrieveSettings
from shared.errors import PenstockError, Retryable
from shared.models import load_catalogue

PYTHON = (3, 11)
FREE_BYTES = 5e9
MODEL = Path("models") / "all-MiniLM-L6-v2-int8"
MODEL_FILES = {"model.onnx": 1_000_000, "tokenizer.json": 10_000}  # name and least size in bytes


def machine(data: Path) -> list[Check]:
    """What must be there before a stack can start."""
    here = [_python(), _encoder(), _disk(data)]
    if from_environment("PENSTOCK_NATS_URL"):
        return here  # the servers run elsewhere
    return [*here, _binary("nats-server"), _binary("redis-server"), _ports(), _sockets()]


async def stack(data: Path) -> AsyncIterator[Check]:
    """What a running stack must answer."""
    info = status(data)
    if info is None and (nats_url := from_environment("PENSTOCK_NATS_URL")):
        asked = [nats_server(nats_url)]
        asked += [redis_server(url)] if (url := from_environment("PENSTOCK_REDIS_URL")) else []
        for check in (answered := await all_of([*asked, *_configured()])):
            yield check
        if answered[0].ok and is_operator(nats_url):
            async for check in _parts(nats_url, SERVICES, "look at its log, such as: docker compose logs"):
                yield check
        return
    if info is None:
        crashed = load(data) is not None
        yield Check(
            "stack", not crashed, "it has crashed" if crashed else "not started; to start: penstock up", "penstock up"
        )
        return
    bad = [process.name for process in info.processes if process.state not in ("RUNNING", "STARTING")]
    found = f"{len(info.processes)} processes run" if not bad else f"{', '.join(bad)} do not run"
    yield Check("stack", not bad, found, f"see {data / 'logs'}" if bad else "")
    nats, redis, *others = await all_of([nats_server(info.operator_url), redis_server(info.redis_url), *_configured()])
    for check in (nats, redis, *others):
        yield check
    if redis.ok:
        yield await _models(info.redis_url)
    if not nats.ok:
        return
    async for check in _parts(info.operator_url, info.services, f"see {data / 'logs'}"):
        yield check


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


def _configured() -> list[Awaitable[Check]]:
    """Checks of the engines and the models' endpoints that the settings name. Raises SettingsError."""
    retrieve = RetrieveSettings.load()
    found: list[Awaitable[Check]] = []
    if "qdrant" in (retrieve.vectors, retrieve.words):
        found.append(qdrant_server(retrieve.qdrant_url, retrieve.qdrant_key))
    if retrieve.words == "opensearch":
        found.append(opensearch_server(retrieve.opensearch_url))
    named = os.environ.get("PENSTOCK_MODELS")
    catalogue = load_catalogue(Path(named) if named else None)
    return found + [model_endpoint(model) for model in catalogue.models if model.base_url]


async def _models(url: str) -> Check:
    try:
        away = await find_breakers(url)
    except Retryable as error:
        return Check("models", False, str(error), "penstock down, then penstock up")
    said = "; ".join(f"{breaker.model} is left alone: {breaker.why}" for breaker in away) or "no breaker is open"
    return Check("models", not away, said, "its fallbacks answer meanwhile; look at the model's endpoint")


async def _parts(operator_url: str, services: Collection[str], todo: str) -> AsyncIterator[Check]:
    """What stands on NATS: the services and the streams."""
    try:
        async with connected(operator_url) as nc:
            pongs = [pong.name.removeprefix(PREFIX) for pong in await discover(nc, "PING", Pong)]
        silent = sorted(set(services) - set(pongs))
        said = f"{', '.join(silent)} do not answer" if silent else f"all {len(services)} answer"
        more = ", ".join(f"{pongs.count(name)} of {name}" for name in services if pongs.count(name) > 1)
        yield Check("services", not silent, f"{said} ({more})" if more else said, todo if silent else "")
        async with await Penstock.connect(operator_url) as penstock:
            yield await _streams(penstock)
    except PenstockError as error:
        yield Check("NATS", False, str(error), todo)


async def _streams(penstock: Penstock) -> Check:
    names = {stream.config.name or "" for stream in await penstock.bus.js.streams_info()}
    for stream in (JOBS, CONTROL):  # with accounts one of each tenant
        names |= {stream.name} if any(name.startswith(f"{stream.name}_") for name in names) else set()
    missing = [stream.name for stream in STREAMS if stream.name not in names]
    said = f"missing: {', '.join(missing)}" if missing else f"all {len(STREAMS)} are there"
    return Check("streams", not missing, said, "the services make them: penstock down, penstock up")
