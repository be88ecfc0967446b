"""Writes all that is a tenant's to files: a folder, or a .tar.gz."""

import base64
import json
import re
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from client.errors import UsageError
from client.tenant_data.places import Index, Objects, Place, Record
from client.tenant_data.stack import Removed

ARCHIVE = (".tar.gz", ".tgz")


async def export(places: Sequence[Place], target: Path) -> list[Removed]:
    """Write every place: lines of JSON, and a file for each object. Returns how many things of each there are.

    Raises UsageError where the target is there already.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target}: is there already; expected a new folder or a new file {ARCHIVE[0]}")
    if not target.name.endswith(ARCHIVE):
        return await _write(places, target)
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}.") as folder:
        counts = await _write(places, Path(folder))
        with tarfile.open(target, "x:gz") as archive:
            archive.add(folder, arcname=target.name.partition(".")[0])
        target.chmod(0o600)
    return counts


async def _write(places: Sequence[Place], folder: Path) -> list[Removed]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    counts = []
    for place in places:
        if isinstance(place, Index) or place.name.startswith("copies of "):
            continue  # made from the documents, or the same as what is in the services' account
        name = place.name.replace(" ", "-").lower()
        count = await (_files(place, folder / name) if isinstance(place, Objects) else _lines(place, folder / name))
        counts.append(Removed(place.name, count))
    return counts


async def _lines(place: Place, target: Path) -> int:
    count = 0
    with target.with_suffix(".jsonl").open("x", encoding="utf-8") as out:
        async for record in place.records():
            out.write(json.dumps(_line(record), ensure_ascii=False) + "\n")
            count += 1
    return count


async def _files(place: Place, folder: Path) -> int:
    count = 0
    async for record in place.records():
        folder.mkdir(exist_ok=True)
        (folder / (re.sub(r"[^\w.-]", "_", record.name) or "_")).write_bytes(record.data)
        count += 1
    return count


def _line(record: Record) -> dict[str, object]:
    line: dict[str, object] = {"name": record.name, "content": readable(record.data)}
    return line | ({"headers": dict(record.headers)} if record.headers else {})


def readable(data: bytes) -> object:
    """What bytes hold, as JSON can say it: JSON, else msgpack, else text, else `{"base64": …}`."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        decoded: Any = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return _text(data)
    return _plain(decoded) if isinstance(decoded, dict | list) else _text(data)


def _plain(value: Any) -> object:
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return readable(value) if isinstance(value, bytes) else value


def _text(data: bytes) -> object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
