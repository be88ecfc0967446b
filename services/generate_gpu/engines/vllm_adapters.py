"""LoRA adapters on disk: what tells one from another, and how much room it needs."""

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shared.models import Model
from shared.settings import SettingsError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM can make room for (its MaxLoRARanks, 0.32)."""


class _Config(msgspec.Struct):
    """Of `adapter_config.json`, what is read here."""

    r: int


def fingerprint(folder: Path) -> str:
    """The hash of an adapter's weights and of what they are for; raises SettingsError where it cannot be read."""
    digest = blake2b(digest_size=6)
    try:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            with (folder / name).open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    except OSError as error:
        raise SettingsError(f"models.yaml: adapter {folder}: {error.strerror}: {Path(error.filename).name}") from None
    return digest.hexdigest()


def named(model: Model, weights: str) -> "LoRARequest":
    """A model's adapter under a name with the hash of its weights: vLLM keys its blocks by the name, so a reload never
    finds stale ones."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(f"{model.name}-{weights}", int(weights[:7], 16) + 1, model.adapter)


def room_for(folders: list[Path]) -> int:
    """The rank that an engine has to have room for; it dies of an adapter with a higher one."""
    highest = max(rank(folder) for folder in folders)
    return next(found for found in _RANKS if found >= highest)


def rank(folder: Path) -> int:
    """The rank of an adapter's matrices. Raises SettingsError where it cannot be read, or vLLM has no room for it."""
    file = folder / "adapter_config.json"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Config).r
    except OSError as error:
        raise SettingsError(f"models.yaml: adapter {folder}: {error.strerror}: {file.name}") from None
    except msgspec.MsgspecError as error:
        raise SettingsError(f"models.yaml: adapter {folder}: {file.name}: {error}") from None
    if not 0 < found <= _RANKS[-1]:
        raise SettingsError(f"models.yaml: adapter {folder}: {file.name}: r: expected 1 to {_RANKS[-1]}, got {found}")
    return found
