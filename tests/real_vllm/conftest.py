"""A tiny model, an adapter for it, and one engine for all tests of the session; skipped where there is no vLLM."""

import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.generate_gpu.app import open_vllm
from services.generate_gpu.domain.completion import Engine
from shared.models import Model

CONTEXT = 2048

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]  # vLLM is not installed here: `make test-vllm` makes its environment


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models by name: `tiny`, and the adapters `first` and `second` on it."""
    from loadtest.tiny_model import write, write_adapter

    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    place = tmp_path_factory.mktemp("models")
    write(place / "tiny")
    for seed, name in enumerate(("first", "second"), start=1):
        write_adapter(place / name, seed=seed, rank=16 * seed)  # an engine has room for 16 unless it is told
    return place


@pytest.fixture(scope="session")
def models(folder: Path) -> list[Model]:
    def model(name: str, adapter: str = "") -> Model:
        return Model(
            name=name,
            engine="vllm",
            id=str(folder / "tiny"),
            context=CONTEXT,
            adapter=adapter and str(folder / adapter),
            tools="" if adapter else "llama3_json",
            settings={"enforce_eager": True, "block_size": 32, "max_num_seqs": 16},
        )

    return [model("plain"), model("hr", "first"), model("finance", "second")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines(models: list[Model]) -> AsyncIterator[dict[str, Engine]]:
    """The three models on one engine."""
    opened = open_vllm(models)
    yield opened
    for engine in opened.values():
        await engine.close()


@pytest.fixture
def plain(engines: dict[str, Engine]) -> Engine:
    return engines["plain"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coroutines of one session run on one loop: an engine belongs to the loop that it was first used on."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("asyncio") is not None:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
