"""The stacks of these tests, each built and started once. `make test-stack`.

Vectors are in Edge unless PENSTOCK_TEST_VECTORS=qdrant; words are in OpenSearch. Ports are chosen.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from loadtest.chaos.model import ChaoticModel, chaotic
from loadtest.chaos.rolling import SCALE
from loadtest.compose_stack import HOST, ComposeStack, no_engine

VECTORS = os.environ.get("PENSTOCK_TEST_VECTORS", "edge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skipped with the reason where they are not asked for, or cannot run."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not here:
        return
    wanted = os.environ.get("PENSTOCK_TEST_STACK") == "1"
    reason = no_engine() if wanted else "builds images: run make test-stack"
    for item in here:
        item.add_marker(pytest.mark.timeout(1200))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@contextmanager
def listening(model: ChaoticModel) -> Iterator[ChaoticModel]:
    """The model, in a thread with a loop of its own: it outlives single tests."""
    there, end = Event(), Event()

    async def listen() -> None:
        async with model.running(known_as=HOST):
            there.set()
            await asyncio.to_thread(end.wait)

    thread = Thread(target=lambda: asyncio.run(listen()), daemon=True)
    thread.start()
    try:
        assert there.wait(30)
        yield model
    finally:
        end.set()
        thread.join(30)


@pytest.fixture(scope="session")
def model() -> Iterator[ChaoticModel]:
    with listening(chaotic(0, 0.0)) as playing:
        yield playing


@contextmanager
def running(stack: ComposeStack) -> Iterator[ComposeStack]:
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, model: ChaoticModel) -> Iterator[ComposeStack]:
    """Several replicas of what may have them, and a model on this machine."""
    folder = tmp_path_factory.mktemp("compose")
    catalogue = folder / "models.yaml"
    catalogue.write_text(model.catalogue)
    environment = {"PENSTOCK_MODELS": str(catalogue)}
    with running(ComposeStack(folder, "penstock-test", SCALE, vectors=VECTORS, environment=environment)) as found:
        yield found


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    """With TLS, one replica of each service."""
    stack = ComposeStack(tmp_path_factory.mktemp("secure"), "penstock-test-tls", {}, vectors=VECTORS, tls=True)
    stack.environment |= {"COMPOSE_PROFILES": "", "PENSTOCK_OTLP": ""}
    with running(stack) as found:
        yield found
