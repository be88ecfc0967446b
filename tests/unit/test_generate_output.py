"""Generate: samples, output that has to fit a schema, calls of tools."""

import asyncio
import dataclasses

import pytest
from generate_bench import Bench, item, shard

from contracts.item import Tool, ToolCall
from contracts.steps import Generate
from loadtest.scripted_model import Reply
from services.generate_gpu.domain.breaker import Open, Permit, Unguarded
from services.generate_gpu.handlers import generate
from shared.errors import Retryable
from shared.models import Model

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
}
VISITS = Tool("visits", parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


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


async def test_a_call_that_is_broken_off_is_charged_for_all_that_it_sent(bench: Bench) -> None:
    bench.model.when("question", Reply(fault="hang"))
    described = "Visits that are left. " * 100
    tool = Tool("visits", described)
    running = asyncio.create_task(bench.run(shard(item(0)), tools=[tool], schema={"description": described}))
    await bench.model.until(lambda model: model.calls() == 1)
    bench.cancelled["j1"] = "not needed any more"
    (done,) = await running
    assert 1000 < done.usage.prompt_tokens < 2000


async def test_samples_that_came_before_a_fault_are_kept(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", "b", Reply("busy", status=500), "d")
    task = shard(item(0))
    with pytest.raises(Retryable):
        await bench.run(task, n=4)
    (done,) = await bench.run(task, n=4)
    assert len(done.completions) == 4
    assert bench.model.calls() == 5


async def test_however_many_samples_fail_together_that_is_one_failure(bench: Bench) -> None:
    busy = Reply("busy", status=429)
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", *[busy] * 6, *["b"] * 5, busy, "c")
    task = shard(item(0))
    for drawn, failures in ((6, 1), (6, 2)):
        with pytest.raises(Retryable):
            await bench.run(task, n=12)
        paid = (await bench.ledger.read(task.id, 0))[0]
        assert (len(paid.drawn), paid.failures) == (drawn, failures)
    (done,) = await bench.run(task, n=12)
    assert len(done.completions) == 12
    assert bench.model.calls() == 1 + 11 + 1 + 6


class OpensAfterTwo(Unguarded):
    """Lets two calls through, and is slow to say so: the others of a draw have asked by then."""

    def __init__(self) -> None:
        self.asked = 0

    def guards(self, model: Model) -> bool:
        return True

    async def ask(self, model: Model) -> Permit | Open:
        self.asked += 1
        mine = self.asked
        await asyncio.sleep(0)
        return Permit(0) if mine <= 2 else Open(1.0, 1.0, "it answered 503")


async def test_a_sample_that_was_not_called_for_is_no_failure(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", "b", "c")
    workshop = dataclasses.replace(bench.workshop, breakers=OpensAfterTwo())
    with pytest.raises(Retryable, match="is left alone"):
        await generate(shard(item(0)), Generate(model="large", n=3), workshop)
    paid = (await bench.ledger.read("acme/j1/0", 0))[0]
    assert (len(paid.drawn), paid.failures) == (2, 0)


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


async def test_samples_that_an_endpoint_gives_one_at_a_time_have_seeds_of_their_own(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", "b", Reply("busy", status=500), "d")
    task = shard(item(0))
    with pytest.raises(Retryable):
        await bench.run(task, n=4, seed=7)
    await bench.run(task, n=4, seed=7)
    seeds = [call.body["seed"] for call in bench.model.requests]
    failed = seeds.pop(2)
    assert len(set(seeds)) == 4, f"{seeds}, and {failed} for the one that failed"
    assert min(seeds) == seeds[0] == 7


async def test_a_sample_that_is_drawn_again_has_a_seed_that_none_of_the_first_call_had(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", " ", "b"]), "c")
    await bench.run(shard(item(0)), n=3, seed=7)
    assert [call.body["seed"] for call in bench.model.requests] == [7, 10], "the first call used 7, 8 and 9"


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


async def test_an_empty_sample_is_drawn_again_and_the_others_are_kept(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", " ", "b"]), "c")
    (done,) = await bench.run(shard(item(0)), n=3)
    assert [completion.text for completion in done.completions] == ["a", "b", "c"]
    assert done.usage.calls == 2


async def test_an_item_goes_on_without_a_sample_that_does_not_come(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", " ", "b"]), Reply("", finish_reason="length"))
    (done,) = await bench.run(shard(item(0)), n=3)
    assert [completion.text for completion in done.completions] == ["a", "b"]
    assert done.usage.calls == 2, "what brought nothing was paid for too"


async def test_a_sample_is_tried_again_as_often_as_others_before_the_item_goes_on_without_it(bench: Bench) -> None:
    bench.model.when("question", Reply(texts=["a", " ", "b"]), Reply("broken", status=500))
    task = shard(item(0))
    for _ in range(bench.tries - 1):
        with pytest.raises(Retryable):
            await bench.run(task, n=3)
    (done,) = await bench.run(task, n=3)
    assert [completion.text for completion in done.completions] == ["a", "b"]


async def test_what_may_go_better_is_tried_again_though_another_sample_failed_for_good(bench: Bench) -> None:
    bench.model.one_at_a_time = True
    bench.model.when("question", "a", Reply("no", status=400), Reply("busy", status=500), "b")
    task = shard(item(0))
    with pytest.raises(Retryable):
        await bench.run(task, n=3)
    (done,) = await bench.run(task, n=3)
    assert [completion.text for completion in done.completions] == ["a", "b", "b"]
