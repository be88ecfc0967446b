"""Generate: shards of items against a real model server, with everything that may go wrong with one of them."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
from msgspec.structs import replace

from contracts.item import Input, Item, Message, Passage, Tool, ToolCall
from contracts.job import TokenDelta
from contracts.steps import Generate
from contracts.task import Task
from loadtest.scripted_model import Reply, ScriptedModel
from services.generate_gpu.adapters.ledger import MemoryLedger
from services.generate_gpu.domain.completion import Engine
from services.generate_gpu.domain.ledger import Entry, Paid
from services.generate_gpu.domain.stream import TokenStream
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.handlers import Workshop, generate
from shared.errors import Retryable
from shared.models import Catalogue, Model, Price, Timeout

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
}


@dataclass
class Listener:
    """Keeps what is published."""

    heard: list[tuple[str, TokenDelta]] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes) -> None:
        self.heard.append((subject, msgspec.json.decode(payload, type=TokenDelta)))


@dataclass
class Bench:
    """A workshop around a scripted model."""

    model: ScriptedModel
    listener: Listener = field(default_factory=Listener)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    cancelled: dict[str, str] = field(default_factory=dict)
    tries: int = 3

    @property
    def workshop(self) -> Workshop:
        large = Model(
            name="large",
            engine="openai",
            base_url=self.model.url,
            id="scripted",
            context=8192,
            price=Price(prompt=1.0, cached=0.1, completion=10.0),
            timeout=Timeout(connect=1.0, read=5.0, total=10.0),
            tools="native",
        )
        noop = Model(name="noop", engine="noop", context=8192, default=True)
        engines: Mapping[str, Engine] = {"large": OpenAI(large), "noop": Noop(noop)}
        return Workshop(
            catalogue=Catalogue(models=(large, noop)),
            engines=engines,
            ledger=self.ledger,
            publisher=self.listener,
            tries=self.tries,
            cancelled=lambda tenant, job: self.cancelled.get(job),
        )

    async def run(self, task: Task, **step: object) -> list[Item]:
        return await generate(task, replace(Generate(model="large"), **step), self.workshop)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with ScriptedModel.running() as model:
        yield Bench(model)


def item(n: int, text: str = "", **fields: object) -> Item:
    question = text or f"question {n}"
    return replace(Item(n=n, input=Input(question=question), messages=[Message("user", question)]), **fields)


def shard(*items: Item, **fields: object) -> Task:
    task = Task(
        id="acme/j1/0", tenant="acme", job="j1", pattern="direct", items=list(items), steps=[], group="g", index=0
    )
    return replace(task, **fields)


async def test_every_item_gets_its_answer_in_the_order_given(bench: Bench) -> None:
    for n in range(5):
        bench.model.when(f"question {n}$", Reply(f"answer {n}", delay_s=0.02 * (5 - n)))
    done = await bench.run(shard(*(item(n, prompt="direct@1") for n in range(5))))
    assert [one.n for one in done] == [0, 1, 2, 3, 4]
    answers = [one.answer for one in done]
    assert [answer.text for answer in answers if answer] == [f"answer {n}" for n in range(5)]
    assert {(answer.model, answer.prompt) for answer in answers if answer} == {("large", "direct@1")}
    assert bench.model.calls() == 5


async def test_usage_grows_by_tokens_calls_and_dollars(bench: Bench) -> None:
    reply = Reply("yes", prompt_tokens=1000, cached_tokens=800, completion_tokens=50)
    bench.model.when("question", reply)
    (once,) = await bench.run(shard(item(0)))
    assert (once.usage.prompt_tokens, once.usage.cached_tokens, once.usage.completion_tokens) == (1000, 800, 50)
    assert once.usage.calls == 1
    assert once.usage.cost_usd == pytest.approx((200 * 1.0 + 800 * 0.1 + 50 * 10.0) / 1e6)
    (twice,) = await bench.run(shard(once, hop=3))
    assert twice.usage.calls == 2
    assert twice.usage.cost_usd == pytest.approx(2 * once.usage.cost_usd)


async def test_one_item_fails_for_good_and_the_others_go_on(bench: Bench) -> None:
    bench.model.when("question 1", Reply("bad request", status=400))
    bench.model.when("question", "fine")
    done = await bench.run(shard(item(0), item(1), item(2)))
    assert [one.alive for one in done] == [True, False, True]
    failure = done[1].failure
    assert failure is not None
    assert (failure.code, failure.service) == ("upstream", "generate")
    assert failure.reason == "the model 'large' answered 400: bad request"


async def test_an_unknown_model_fails_its_items_with_the_known_ones(bench: Bench) -> None:
    (done,) = await bench.run(shard(item(0)), model="larger")
    assert done.failure is not None
    assert done.failure.reason == "no such model 'larger'; known are large, noop"


async def test_a_redelivered_shard_calls_the_model_only_for_the_rest(bench: Bench) -> None:
    bench.model.when("question 1", Reply("busy", status=503, headers={"Retry-After": "4"}), "late")
    bench.model.when("question", "fine")
    task = shard(item(0), item(1), item(2))
    with pytest.raises(Retryable) as caught:
        await bench.run(task)
    assert caught.value.after == 4
    assert bench.model.calls() == 3
    done = await bench.run(task)
    assert [one.answer.text for one in done if one.answer] == ["fine", "late", "fine"]
    assert bench.model.calls() == 4
    assert [one.usage.calls for one in done] == [1, 1, 1], "what was paid before counts once"


async def test_what_was_paid_for_at_one_hop_does_not_answer_another(bench: Bench) -> None:
    bench.model.when("question", "first", "second")
    (first,) = await bench.run(shard(item(0), hop=3))
    (second,) = await bench.run(shard(item(0), hop=5))
    assert first.answer is not None
    assert second.answer is not None
    assert (first.answer.text, second.answer.text) == ("first", "second")


async def test_an_item_that_fails_as_often_as_a_task_is_delivered_fails_alone(bench: Bench) -> None:
    bench.model.when("question 1", Reply("broken", status=500))
    bench.model.when("question", "fine")
    task = shard(item(0), item(1))
    for _ in range(bench.tries - 1):
        with pytest.raises(Retryable):
            await bench.run(task)
    fine, broken = await bench.run(task)
    assert fine.alive
    assert broken.failure is not None
    assert broken.failure.code == "upstream"
    assert broken.failure.reason == "given up after 3 calls: the model 'large' answered 500: broken"
    assert bench.model.calls("question 0") == 1


async def test_at_the_last_attempt_what_is_paid_for_goes_on_and_the_rest_has_failed(
    bench: Bench,
) -> None:
    bench.model.when("question 1", Reply("broken", status=500))
    bench.model.when("question", "fine")
    with pytest.raises(Retryable) as caught:
        await bench.run(shard(item(0), item(1), item(2)))
    assert caught.value.settled is not None
    first, second, third = caught.value.settled
    assert (first.alive, second.alive, third.alive) == (True, False, True)
    assert second.failure is not None
    assert second.failure.code == "upstream"
    assert second.failure.reason == "given up: the model 'large' answered 500: broken"
    assert (first.usage.calls, second.usage.calls) == (1, 0)


async def test_several_samples_are_completions_without_an_answer(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", "b", "c"]))
    (done,) = await bench.run(shard(item(0)), n=3)
    assert [completion.text for completion in done.completions] == ["a", "b", "c"]
    assert done.answer is None
    assert done.usage.calls == 1


async def test_an_endpoint_that_gives_one_sample_at_a_time_is_asked_for_the_rest(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", "b", "c", "d")
    (done,) = await bench.run(shard(item(0)), n=4)
    assert sorted(completion.text for completion in done.completions) == ["a", "b", "c", "d"]
    assert done.usage.calls == 4


async def test_samples_that_came_before_a_fault_are_kept(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", "b", Reply("busy", status=500), "d")
    task = shard(item(0))
    with pytest.raises(Retryable):
        await bench.run(task, n=4)
    (done,) = await bench.run(task, n=4)
    assert len(done.completions) == 4
    assert bench.model.calls() == 5


@pytest.mark.parametrize("text", ['{"total": 3}', 'Here it is:\n```json\n{"total": 3}\n```\nAnything else?'])
async def test_json_that_fits_the_schema_is_the_answers_data(bench: Bench, text: str) -> None:
    bench.model.when("question", text)
    (done,) = await bench.run(shard(item(0)), schema=SCHEMA)
    assert done.answer is not None
    assert done.answer.data == {"total": 3}
    assert bench.model.calls() == 1


async def test_output_that_does_not_fit_is_repaired_once_with_the_error_as_feedback(bench: Bench) -> None:
    bench.model.when("does not fit the JSON Schema", '{"total": 3}')
    bench.model.when("question", '{"total": "three"}')
    (done,) = await bench.run(shard(item(0)), schema=SCHEMA)
    assert done.answer is not None
    assert done.answer.data == {"total": 3}
    assert done.usage.calls == 2
    repair = bench.model.requests[1].body["messages"]
    assert [message["role"] for message in repair] == ["user", "assistant", "user"]
    assert repair[1]["content"] == '{"total": "three"}'
    assert '$.total: expected integer, got "three"' in repair[2]["content"]


async def test_output_that_never_fits_fails_and_names_the_place(bench: Bench) -> None:
    bench.model.when("question", '{"total": "three"}', "{}")
    (done,) = await bench.run(shard(item(0)), schema=SCHEMA)
    assert done.failure is not None
    assert done.failure.code == "invalid_output"
    assert done.failure.reason == (
        "the model's output does not fit the schema: $: expected the fields total, which are missing"
    )
    assert done.usage.calls == 2, "what failed was paid for too"
    assert bench.model.calls() == 2


async def test_of_several_samples_those_that_do_not_fit_are_left_out(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=['{"total": 1}', "one", '{"total": 2}']))
    (done,) = await bench.run(shard(item(0)), n=3, schema=SCHEMA)
    assert [completion.data for completion in done.completions] == [{"total": 1}, {"total": 2}]
    assert bench.model.calls() == 1


VISITS = Tool("visits", parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


async def test_calls_of_tools_are_part_of_the_answer_whatever_its_schema(bench: Bench) -> None:
    bench.model.when("question", Reply("", tools=[("visits", '{"n": 3}')]))
    (done,) = await bench.run(shard(item(0)), tools=[VISITS], schema=SCHEMA)
    assert done.answer is not None
    assert done.answer.tool_calls == [ToolCall("visits", {"n": 3}, "call_0")]
    bench.model.when("other", '{"total": 1}')
    (plain,) = await bench.run(shard(item(0, "other"), id="acme/j2/0"), tools=[VISITS], schema=SCHEMA)
    assert plain.answer is not None
    assert plain.answer.data == {"total": 1}, "who calls nothing keeps to the schema"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("visits", '{"n": "three"}'), '$.tool_calls[0].arguments.n: expected integer, got "three"'),
        (("visits", '{"n": 3'), "$.tool_calls[0].arguments: expected a JSON object, got '{\"n\": 3'"),
        (("delete_all", "{}"), "$.tool_calls[0].name: expected one of visits, got 'delete_all'"),
    ],
)
async def test_a_call_that_does_not_fit_is_repaired_once_then_fails(
    bench: Bench, call: tuple[str, str], reason: str
) -> None:
    bench.model.when("question", Reply("", tools=[call]))
    (done,) = await bench.run(shard(item(0)), tools=[VISITS])
    assert done.failure is not None
    assert done.failure.code == "invalid_output"
    assert done.failure.reason.endswith(reason)
    assert bench.model.calls() == 2
    assert call[0] in bench.model.requests[1].body["messages"][1]["content"]


@pytest.mark.parametrize(
    ("choice", "reply", "reason"),
    [
        ("required", Reply("Three."), "$.tool_calls: expected a call of visits or bills, got none"),
        ("visits", Reply("Three."), "$.tool_calls: expected a call of visits, got none"),
        ("visits", Reply("", tools=[("bills", "{}")]), "$.tool_calls[0].name: expected one of visits, got 'bills'"),
        ("none", Reply("", tools=[("bills", "{}")]), "$.tool_calls: expected none, got a call of 'bills'"),
    ],
)
async def test_a_model_that_does_not_call_as_it_has_to_is_told_once_then_fails(
    bench: Bench, choice: str, reply: Reply, reason: str
) -> None:
    bench.model.when("question", reply)
    (done,) = await bench.run(shard(item(0)), tools=[VISITS, Tool("bills")], tool_choice=choice, schema=SCHEMA)
    assert done.failure is not None
    assert (done.failure.code, bench.model.calls()) == ("invalid_output", 2)
    assert done.failure.reason.endswith(reason)
    assert reason in bench.model.requests[1].last


async def test_what_a_model_cannot_do_is_refused_by_name_before_any_call(bench: Bench) -> None:
    (tools,) = await generate(shard(item(0)), Generate(model="noop", tools=[VISITS]), bench.workshop)
    assert tools.failure is not None
    assert tools.failure.reason == "options.tools: the model 'noop' takes no tools (models.yaml: tools)"
    (odds,) = await generate(shard(item(0)), Generate(model="noop", logprobs=1), bench.workshop)
    assert odds.failure is not None
    assert odds.failure.reason == "options.logprobs: the model 'noop' knows no probabilities of tokens"


async def test_samples_of_a_scatter_have_seeds_of_their_own(bench: Bench) -> None:
    bench.model.when("question", "Paris.")
    for part in (0, 1):
        await bench.run(shard(item(0, part=part), id=f"acme/j{part}/0"), seed=7, stop=["\n"])
    assert [call.body["seed"] for call in bench.model.requests] == [7, 8]
    assert [call.body["stop"] for call in bench.model.requests] == [["\n"], ["\n"]]


async def test_a_schema_that_is_none_fails_before_any_call(bench: Bench) -> None:
    (done,) = await bench.run(shard(item(0)), schema={"type": "strnig"})
    assert done.failure is not None
    assert done.failure.code == "malformed"
    assert done.failure.reason.startswith("options.schema: not a JSON Schema: $.type")
    assert bench.model.calls() == 0


@pytest.mark.timeout(30)
async def test_a_schema_whose_check_would_not_end_fails_its_item_after_one_call(
    bench: Bench,
) -> None:
    bench.model.when("question", f'{{"a": "{"a" * 40}b"}}')
    beats = asyncio.create_task(asyncio.sleep(0.01))
    for _ in range(2):
        (done,) = await bench.run(shard(item(0)), schema={"properties": {"a": {"pattern": "^(a+)+$"}}})
        assert done.failure is not None
        assert done.failure.code == "malformed"
        assert done.failure.reason.startswith("options.schema: a check takes more than 1 s")
        assert (bench.model.calls(), done.usage.calls) == (1, 1), "it was paid for, and not repaired"
    assert beats.done()


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


async def test_a_stream_that_costs_nothing_numbers_its_attempts_too(bench: Bench) -> None:
    task = shard(item(0))
    for _ in range(2):
        await bench.run(task, model="noop", stream=True)
    assert [delta.attempt for _, delta in bench.listener.heard] == [1, 1, 2, 2]
    assert bench.ledger.booked == {}


async def test_an_empty_sample_is_drawn_again_and_the_others_are_kept(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", " ", "b"]), "c")
    (done,) = await bench.run(shard(item(0)), n=3)
    assert [completion.text for completion in done.completions] == ["a", "b", "c"]
    assert done.usage.calls == 2


class Unwritable(MemoryLedger):
    async def write(self, entry: Entry, paid: Paid) -> None:
        raise Retryable("the ledger in Redis does not answer")


async def test_an_answer_that_cannot_be_booked_is_used_all_the_same(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ledger = Unwritable()
    bench.model.when("question", "fine")
    (done,) = await bench.run(shard(item(0)))
    assert done.answer is not None
    assert "item 0 of acme/j1/0 is not booked" in caplog.text


async def test_a_failed_stream_ends_with_the_code_of_the_failure(bench: Bench) -> None:
    bench.model.when("question", Reply("no", status=400))
    await bench.run(shard(item(0)), stream=True)
    assert [delta.finish_reason for _, delta in bench.listener.heard] == ["upstream"]


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


async def test_no_more_items_at_once_than_the_setting_says(bench: Bench) -> None:
    bench.model.when("question", Reply("fine", delay_s=0.05))
    workshop = dataclasses.replace(bench.workshop, items_at_once=2)
    done = await generate(shard(*(item(n) for n in range(6))), Generate(model="large"), workshop)
    assert len(done) == 6
    assert bench.model.most_at_once == 2


async def test_the_model_that_does_nothing_echoes_without_a_ledger(bench: Bench) -> None:
    done = await bench.run(shard(item(0), item(1)), model="noop")
    assert [one.answer.text for one in done if one.answer] == ["question 0", "question 1"]
    assert bench.ledger.booked == {}
    await bench.run(shard(item(0)), model="noop", stream=True)
    assert [delta.text for _, delta in bench.listener.heard] == ["question 0", ""]


async def test_a_generated_answer_carries_the_quotes_that_it_cites(bench: Bench) -> None:
    passages = [
        Passage("plan#0", "plan", "HMO-483", "Dental care is excluded. Ask for details."),
        Passage("plan#1", "plan", "HMO-483", "The plan covers 30 visits a year. A referral is needed.", "", "4.2", 3),
    ]
    bench.model.when("question", 'Yes: "covers 30 visits a year" [2], with a referral [2]. Not "unlimited" [2] [9].')
    (done,) = await bench.run(shard(item(0, passages=passages)))
    assert done.answer is not None
    assert [(quote.text, quote.clause, quote.page) for quote in done.answer.quotes] == [
        ("covers 30 visits a year", "4.2", 3),
        ("A referral is needed.", "4.2", 3),
    ]


async def test_the_ledger_forgets_nothing_that_was_paid_before_a_crash(bench: Bench) -> None:
    bench.model.when("question 0", "paid")
    bench.model.when("question 1", Reply(fault="hang"))
    task = shard(item(0), item(1))
    crash = asyncio.create_task(bench.run(task))
    while not any(paid.drawn for paid in (await bench.ledger.read(task.id, 0)).values()):  # noqa: ASYNC110 - a store has no events
        await asyncio.sleep(0.01)
    crash.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crash
    bench.model.rules.clear()
    bench.model.when("question", "anew")
    done = await bench.run(task)
    assert [one.answer.text for one in done if one.answer] == ["paid", "anew"]
    assert isinstance((await bench.ledger.read(task.id, 0))[1], Paid)


async def test_a_stream_says_when_its_first_piece_came_and_counts_tokens_where_the_engine_does(bench: Bench) -> None:
    before = time.time()
    bench.model.when("question", "Thirty days a year.")
    (done,) = await bench.run(shard(item(0)), stream=True)
    assert before < done.completions[0].timing.first_at < time.time()
    (quiet,) = await bench.run(shard(item(0), hop=1))
    assert quiet.completions[0].timing.first_at == 0


async def test_what_an_attempt_has_sent_is_counted_in_tokens(bench: Bench) -> None:
    stream = TokenStream(bench.listener, "tokens.acme.j1.0")
    await stream.send("One ", 1)
    await stream.send("", 2)  # half a letter: its tokens count with the next piece
    await stream.send("two", 1)
    stream.again(2)
    await stream.send("Three", 1)
    await stream.close("stop")
    heard = [(delta.attempt, delta.index, delta.text, delta.tokens) for _, delta in bench.listener.heard]
    assert heard == [(1, 0, "One ", 1), (1, 1, "two", 4), (2, 0, "Three", 1), (2, 1, "", 1)]
