"""What is read of LoRA adapters before an engine is opened for them."""

import json
from pathlib import Path

import pytest

from services.generate_gpu.engines.vllm_adapters import room_for
from shared.settings import SettingsError


def adapter(folder: Path, about: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("ranks", "room"), [([8], 8), ([4, 9], 16), ([16, 33], 64), ([512], 512)])
def test_an_engine_has_room_for_the_adapter_of_the_highest_rank(tmp_path: Path, ranks: list[int], room: int) -> None:
    assert room_for([adapter(tmp_path / str(rank), {"r": rank, "lora_alpha": 8}) for rank in ranks]) == room


@pytest.mark.parametrize(
    ("about", "why"),
    [({"r": 513}, "r: expected 1 to 512, got 513"), ({"r": 0}, "expected 1 to 512, got 0"), ({}, "missing.*`r`"),
     ({"r": "eight"}, "Expected `int`")],
)  # fmt: skip
def test_an_adapter_that_no_engine_can_take_is_named(tmp_path: Path, about: object, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"models\.yaml: adapter .*one: adapter_config\.json: .*{why}"):
        room_for([adapter(tmp_path / "one", about)])


def test_an_adapter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"adapter .*none: No such file or directory: adapter_config\.json"):
        room_for([tmp_path / "none"])
