"""Which engines serve: those in the settings, unless `penstock reindex` has chosen others since.

The choice is kept in `serving.json` beside the index, with the settings of its time. Once the settings name other
engines than then, they count again.
"""

import os
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from contracts.reindex import Engines
from services.retrieve.config import RetrieveSettings
from shared.settings import SettingsError

FILE = "serving.json"
EDGE = "edge"


class Chosen(Struct, frozen=True):
    """What was chosen: the engines in the settings at that time, those that serve, and Edge's folder."""

    configured: Engines
    serving: Engines
    edge: str = EDGE


def chosen(settings: RetrieveSettings, folder: Path) -> Chosen:
    """The choice that counts. Raises SettingsError where it cannot be read."""
    configured = Engines(settings.vectors, settings.words)
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=Chosen)
    except FileNotFoundError:
        return Chosen(configured, configured)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{folder / FILE}: {error}; delete it: the engines in the settings count then") from None
    if configured == found.configured:
        return found
    return replace(found, configured=configured, serving=configured)


def choose(choice: Chosen, folder: Path) -> None:
    """Keep a choice; whoever reads it sees it whole or not at all."""
    new = folder / f"{FILE}.new"
    with new.open("wb") as file:
        file.write(msgspec.json.encode(choice))
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / FILE)


def with_engines(settings: RetrieveSettings, engines: Engines) -> RetrieveSettings:
    """The settings as if they named these engines."""
    return settings.model_copy(update={"vectors": engines.vectors, "words": engines.words})


def new_edge(folder: Path) -> str:
    """The name of a folder for Edge that is not there yet."""
    numbers = [int(name) for path in folder.glob(f"{EDGE}-*") if (name := path.name.removeprefix(f"{EDGE}-")).isdigit()]
    return f"{EDGE}-{max(numbers, default=1) + 1}"


def sweep(folder: Path, choice: Chosen) -> None:
    """Delete Edge's folders that do not count: of fillings that broke off, and of engines that were replaced."""
    for path in [folder / EDGE, *folder.glob(f"{EDGE}-*")]:
        if path.name != choice.edge:
            shutil.rmtree(path, ignore_errors=True)
