"""The extractive reader as an engine: what it answers with, and whom it reads for first."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from contracts.item import Passage, Usage
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.engines.extractive import Extractive
from services.generate_gpu.engines.noop import Noop
from shared.encoder import Encoder, QueryVectors
from shared.errors import ItemError
from shared.models import Model

PLAN = [
    Passage(
        "plan#3",
        "plan",
        "HMO-483 Benefits 2025",
        "Physiotherapy after ACL surgery is covered for up to 30 visits a year. A referral is needed for each series. "
        "Dental implants are excluded from this plan.",
        clause="4.2",
        page=3,
    )
]
QUESTION = "How many physiotherapy visits after ACL surgery are covered?"
BATCH = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda omega".split()  # noqa: SIM905 - twelve words
MODEL = Model(name="reader", engine="extractive", context=8192)


def asked(question: str = QUESTION, **fields: object) -> CompletionRequest:
    return CompletionRequest(messages=[], question=question, passages=PLAN, **fields)  # type: ignore[arg-type]  # fields by name


async def test_it_quotes_the_passage_and_streams_what_it_says() -> None:
    engine = Extractive(MODEL, Encoder())
    pieces: list[str] = []

    async def keep(piece: str, tokens: int = 0, /) -> None:
        pieces.append(piece)

    (completion,) = await engine.complete(asked(), keep)
    assert "up to 30 visits" in completion.text
    assert (completion.mode, completion.model) == ("extractive", "reader")
    assert completion.quotes[0].clause == "4.2"
    assert "".join(pieces) == completion.text
    (refusal,) = await engine.complete(asked("Who won the football world cup in Brazil?"))
    assert (refusal.mode, refusal.finish_reason) == ("refused", "refused")
    await engine.close()


async def test_of_several_samples_the_first_carries_the_usage() -> None:
    for engine in (Extractive(MODEL, Encoder()), Noop(MODEL)):
        found = await engine.complete(asked(n=3))
        assert [completion.usage.calls for completion in found] == [1, 0, 0]
        assert sum((completion.usage for completion in found), Usage()) == found[0].usage
        await engine.close()


async def test_without_a_question_it_says_how_the_text_begins() -> None:
    engine = Extractive(MODEL, Encoder())
    (completion,) = await engine.complete(asked(" "))
    assert completion.text == "Physiotherapy after ACL surgery is covered for up to 30 visits a year."
    await engine.close()


async def test_it_cannot_fill_a_schema() -> None:
    engine = Extractive(MODEL, Encoder())
    with pytest.raises(ItemError, match="'reader' quotes passages and cannot fill a schema"):
        await engine.complete(asked(schema={"type": "object"}))
    await engine.close()


class Gate(Encoder):
    """An encoder that waits until it may go on, and keeps the questions in the order in which they were read."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.readings: list[list[str]] = []

    def encode_tokens(self, texts: Sequence[str], batch: int = 16) -> list[QueryVectors]:
        self.readings.append([text for text in texts if text.startswith("How")])
        self.entered.set()
        assert self.opened.wait(10)
        ones = np.ones((1, 384), dtype=np.float32) / np.sqrt(np.float32(384))
        return [QueryVectors(vector=ones[0], tokens=ones) for _ in texts]


async def test_people_are_read_for_before_batches_and_many_at_once() -> None:
    gate = Gate()
    engine = Extractive(MODEL, gate, threads=1)
    question = "How many physiotherapy visits are covered in year {}"
    first = asyncio.create_task(engine.complete(asked(question.format("one"))))
    await asyncio.to_thread(gate.entered.wait, 10)
    batch = [asyncio.create_task(engine.complete(asked(question.format(name), batch=True))) for name in BATCH]
    person = asyncio.create_task(engine.complete(asked(question.format("two"))))
    left = asyncio.create_task(engine.complete(asked(question.format("gone"))))
    await asyncio.sleep(0)
    left.cancel()
    gate.opened.set()
    await asyncio.gather(first, person, *batch)
    assert gate.readings[0] == [question.format("one")]
    assert gate.readings[1][0] == question.format("two")
    assert [len(reading) for reading in gate.readings] == [1, 8, 5]
    assert not any("gone" in text for reading in gate.readings for text in reading)
    await engine.close()


class Broken(Encoder):
    def __init__(self) -> None:
        self.calls = 0

    def encode_tokens(self, texts: Sequence[str], batch: int = 16) -> list[QueryVectors]:
        self.calls += 1
        raise MemoryError("too much")


async def test_an_error_reaches_everyone_who_waits_and_the_engine_goes_on() -> None:
    encoder = Broken()
    engine = Extractive(MODEL, encoder, threads=1)
    results = await asyncio.gather(engine.complete(asked()), engine.complete(asked()), return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError, MemoryError]
    with pytest.raises(MemoryError):
        await engine.complete(asked())
    assert encoder.calls == 2
    await engine.close()
