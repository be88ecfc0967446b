"""A ladder over an engine that is being started again: others answer, or the item waits without using attempts up."""

import pytest

from contracts.item import Completion, Message
from services.generate_gpu.domain.breaker import Unguarded
from services.generate_gpu.domain.completion import Away, CompletionRequest, Engine, OnBegin, OnDelta, unheard
from services.generate_gpu.domain.ladder import Due, Ladder, Step, ladder
from services.generate_gpu.engines.canned import Canned
from shared.errors import Later, Retryable
from shared.models import Model

ASKED = CompletionRequest([Message("user", "Hello?")])
HOUSE = Model(name="house", engine="vllm", id="house")
SORRY = Model(name="sorry", engine="canned", text="We cannot answer now.")
BROKEN = Model(name="broken", engine="canned", text="never said")


class Restarting:
    paid = True
    instant = False

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        raise Away("the engine of house has died; it is started again", after=2.0)

    async def close(self) -> None: ...


class Broken(Restarting):
    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        raise Retryable("the other one does not answer")


async def nothing(step: Step, request: CompletionRequest) -> None: ...


def of(*models: Model) -> Ladder:
    engines: dict[str, Engine] = {"house": Restarting(), "sorry": Canned(SORRY), "broken": Broken()}
    return ladder(models, engines, Unguarded())


async def test_the_next_rung_answers_whoever_waits() -> None:
    (found,) = await of(HOUSE, SORRY).complete(ASKED, nothing, Due(0.0, 0.0, None), last_try=False)
    assert (found.text, found.why) == (SORRY.text, "the engine of house has died; it is started again")


async def test_a_batch_waits_for_the_model_that_it_asked_for() -> None:
    with pytest.raises(Later) as waits:
        await of(HOUSE, SORRY).complete(ASKED, nothing, Due(3600.0, 0.0, None), last_try=True)
    assert waits.value.after == 2.0


@pytest.mark.parametrize("models", [(HOUSE,), (HOUSE, BROKEN)])
async def test_without_another_rung_the_item_waits(models: tuple[Model, ...]) -> None:
    with pytest.raises(Later, match="has died; it is started again") as waits:
        await of(*models).complete(ASKED, nothing, Due(0.0, 0.0, None), last_try=True)
    assert waits.value.after == 2.0
