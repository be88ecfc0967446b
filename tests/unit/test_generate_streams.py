"""Generate: tokens that are published as they come, and calls that end before their answer."""

import asyncio
import time
from functools import partial

import pytest
from generate_bench import Bench, item, shard

from loadtest.scripted_model import Reply
from services.generate_gpu.domain.stream import TokenStream
from shared.attempts import MemoryAttempts
from shared.errors import Retryable


async def test_tokens_are_published_as_they_come_and_end_with_the_reason(bench: Bench) -> None:
    bench.model.when("question", "Paris, of course.")
    await bench.run(shard(item(4)), stream=True)
    assert {subject for subject, _ in bench.listener.heard} == {"tokens.acme.j1.4"}
    deltas = [delta for _, delta in bench.listener.heard]
    assert [delta.text for delta in deltas] == ["Paris, ", "of ", "course.", ""]
    assert [delta.index for delta in deltas] == [0, 1, 2, 3]
    assert [delta.finish_reason for delta in deltas] == ["", "", "", "stop"]


async def test_a_repeated_stream_comes_under_a_higher_attempt(bench: Bench) -> None:
    bench.model.when("question", Reply("Paris, of course.", fault="half"), "Lyon.")
    task = shard(item(0))
    with pytest.raises(Retryable):
        await bench.run(task, stream=True)
    await bench.run(task, stream=True)
    deltas = [delta for _, delta in bench.listener.heard]
    assert [(delta.attempt, delta.index, delta.text) for delta in deltas] == [
        (1, 0, "Paris, "),
        (2, 0, "Lyon."),
        (2, 1, ""),
    ]
    await bench.run(task, stream=True)
    again = [delta for _, delta in bench.listener.heard][3:]
    assert [(delta.attempt, delta.text) for delta in again] == [(3, "Lyon."), (3, "")]
    assert bench.model.calls() == 2, "a replay costs nothing"


async def test_an_attempt_is_above_the_one_before_also_where_the_count_was_lost(bench: Bench) -> None:
    stream = TokenStream(bench.listener, "tokens.acme.j1.0", _first)
    for _ in range(3):
        await stream.begin()
        await stream.send("Paris")
    assert [delta.attempt for _, delta in bench.listener.heard] == [1, 2, 3]


async def _first() -> int:
    return 1


async def test_a_stream_that_costs_nothing_numbers_its_attempts_too(bench: Bench) -> None:
    task = shard(item(0))
    for _ in range(2):
        await bench.run(task, model="noop", stream=True)
    assert [delta.attempt for _, delta in bench.listener.heard] == [1, 1, 2, 2]
    assert bench.ledger.booked == {}


async def test_a_failed_stream_ends_with_the_code_of_the_failure(bench: Bench) -> None:
    bench.model.when("question", Reply("no", status=400))
    await bench.run(shard(item(0)), stream=True)
    assert [delta.finish_reason for _, delta in bench.listener.heard] == ["upstream"]


@pytest.mark.parametrize("code", ["cancelled", "deadline_exceeded"])
async def test_readers_of_earlier_deliveries_hear_that_a_stream_has_ended(bench: Bench, code: str) -> None:
    bench.model.when("question", Reply("Paris, of course.", fault="half"))
    for _ in range(2):
        with pytest.raises(Retryable):
            await bench.run(shard(item(0)), stream=True)
    if code == "cancelled":
        bench.cancelled["j1"] = "cancelled: changed my mind"
    late = item(0) if code == "cancelled" else item(0, deadline=bench.workshop.clock() - 1)
    await bench.run(shard(late), stream=True)
    heard = [(delta.attempt, delta.text, delta.finish_reason) for _, delta in bench.listener.heard]
    assert heard == [(1, "Paris, ", ""), (2, "Paris, ", ""), (3, "", code)]
    assert bench.model.calls() == 2


class Uncounted(MemoryAttempts):
    async def begin(self, task: str, n: int) -> int:
        raise Retryable("the attempts in Redis cannot be counted")


async def test_an_item_ends_also_where_its_readers_cannot_be_told(bench: Bench) -> None:
    bench.attempts = Uncounted()
    bench.cancelled["j1"] = "cancelled: changed my mind"
    (done,) = await bench.run(shard(item(0)), stream=True)
    assert done.failure is not None
    assert done.failure.code == "cancelled"
    assert bench.listener.heard == []


async def test_an_items_deadline_aborts_its_call_and_no_other(bench: Bench) -> None:
    bench.model.when("question 0", Reply(fault="hang"))
    bench.model.when("question 1", "fine")
    now = bench.workshop.clock()
    late, fine = await bench.run(shard(item(0, deadline=now + 0.3), item(1, deadline=now + 60)))
    assert late.failure is not None
    assert late.failure.code == "deadline_exceeded"
    assert fine.alive
    await bench.model.until(lambda model: model.aborted == 1)


async def test_the_jobs_deadline_counts_too(bench: Bench) -> None:
    bench.model.when("question", Reply(fault="hang"))
    (late,) = await bench.run(shard(item(0), deadline=bench.workshop.clock() + 0.3))
    assert late.failure is not None
    assert late.failure.code == "deadline_exceeded"


async def test_a_cancelled_job_aborts_its_calls(bench: Bench) -> None:
    bench.model.when("question", Reply(fault="hang"))
    running = asyncio.create_task(bench.run(shard(item(0), item(1))))
    await bench.model.until(lambda model: len(model.requests) == 2)
    bench.cancelled["j1"] = "cancelled: changed my mind"
    done = await running
    assert [one.failure.reason for one in done if one.failure] == ["cancelled: changed my mind"] * 2
    await bench.model.until(lambda model: model.aborted == 2)


async def test_a_stream_says_when_its_first_piece_came_and_counts_tokens_where_the_engine_does(bench: Bench) -> None:
    before = time.time()
    bench.model.when("question", "Thirty days a year.")
    (done,) = await bench.run(shard(item(0)), stream=True)
    assert before < done.completions[0].timing.first_at < time.time()
    (quiet,) = await bench.run(shard(item(0), hop=1))
    assert quiet.completions[0].timing.first_at == 0


async def test_what_an_attempt_has_sent_is_counted_in_tokens(bench: Bench) -> None:
    stream = TokenStream(bench.listener, "tokens.acme.j1.0", partial(bench.attempts.begin, "acme/j1/0", 0))
    await stream.begin()
    await stream.send("One ", 1)
    await stream.send("", 2)  # half a letter: its tokens count with the next piece
    await stream.send("two", 1)
    await stream.begin()
    await stream.send("Three", 1)
    await stream.close("stop")
    heard = [(delta.attempt, delta.index, delta.text, delta.tokens) for _, delta in bench.listener.heard]
    assert heard == [(1, 0, "One ", 1), (1, 1, "two", 4), (2, 0, "Three", 1), (2, 1, "", 1)]
