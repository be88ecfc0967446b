"""The openai engine against a real HTTP server: what it asks, what it understands, and what each fault becomes."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from contracts.item import Message, Tool, ToolCall, Usage
from loadtest.scripted_model import Reply, ScriptedModel
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.metered import Metered
from services.generate_gpu.engines.openai import OpenAI
from services.generate_gpu.engines.openai_errors import fault_in, retry_after
from services.generate_gpu.engines.openai_wire import Text
from shared.errors import ItemError, Retryable
from shared.models import Model, Timeout

KEY = "sk-very-secret-0123456789"
ASKED = CompletionRequest([Message("system", "Be brief."), Message("user", "Name the capital of France.")])


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel.running() as running:
        yield running


def engine(model: ScriptedModel, **fields: object) -> OpenAI:
    entry = {
        "name": "large",
        "engine": "openai",
        "base_url": model.url,
        "id": "scripted-1",
        "timeout": Timeout(read=0.5, total=2),
        **fields,
    }
    return OpenAI(Model.model_validate(entry), environment={"THE_KEY": KEY})


async def streamed(client: OpenAI, request: CompletionRequest) -> tuple[str, list[str]]:
    pieces: list[str] = []

    async def keep(piece: str, tokens: int = 0, /) -> None:
        pieces.append(piece)

    (completion,) = await client.complete(request, keep)
    return completion.text, pieces


async def test_a_call_says_what_was_asked_and_gives_text_and_usage(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris.", prompt_tokens=100, cached_tokens=64, completion_tokens=3))
    request = replace(ASKED, temperature=0.7, max_tokens=33, stop=["\n"], seed=7)
    (completion,) = await engine(model).complete(request)
    assert (completion.text, completion.model, completion.mode) == ("Paris.", "large", "generated")
    assert completion.usage == Usage(100, 64, 3, calls=1)
    assert model.requests[0].body == {
        "model": "scripted-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Name the capital of France."},
        ],
        "temperature": 0.7,
        "max_tokens": 33,
        "stop": ["\n"],
        "seed": 7,
    }


async def test_several_samples_come_from_one_call_which_is_counted_once(model: ScriptedModel) -> None:
    model.when("capital", Reply(texts=["Paris.", "Lyon.", "Paris."], prompt_tokens=10))
    found = await engine(model).complete(replace(ASKED, n=3))
    assert [completion.text for completion in found] == ["Paris.", "Lyon.", "Paris."]
    assert sum((completion.usage for completion in found), Usage()) == Usage(10, 0, 3, calls=1)
    assert model.requests[0].body["n"] == 3


@pytest.mark.parametrize(
    ("structured", "expected"),
    [
        ("json_schema", {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}),
        ("json_object", {"type": "json_object"}),
        ("none", None),
    ],
)
async def test_a_schema_is_passed_on_in_the_form_that_the_endpoint_takes(
    model: ScriptedModel, structured: str, expected: object
) -> None:
    model.when("capital", "{}")
    await engine(model, structured=structured).complete(replace(ASKED, schema={"type": "object"}))
    assert model.requests[0].body.get("response_format") == expected


async def test_a_stream_gives_its_pieces_as_they_come_and_the_same_text_and_usage(model: ScriptedModel) -> None:
    text = "Paris is the capital\u2028of France, “naturally”."
    model.when("capital", Reply(text, prompt_tokens=50, cached_tokens=48, completion_tokens=8))
    got, pieces = await streamed(engine(model), ASKED)
    assert got == text == "".join(pieces)
    assert len([piece for piece in pieces if piece]) == 7
    assert model.requests[0].body["stream_options"] == {"include_usage": True}


VISITS = Tool("visits", "Visits that are left.", {"type": "object", "properties": {"member": {"type": "string"}}})


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_passed_on_and_their_calls_come_back(model: ScriptedModel, stream: bool) -> None:
    calls = [("visits", '{"member": "H-1"}'), ("visits", '{"member": "H-2"}')]
    model.when("capital", Reply("", tools=calls, finish_reason="tool_calls", prompt_tokens=9, completion_tokens=5))
    heard: list[str] = []

    async def keep(piece: str, tokens: int = 0, /) -> None:
        heard.append(piece)

    (done,) = await engine(model, tools="native").complete(replace(ASKED, tools=[VISITS]), keep if stream else None)
    assert done.tool_calls == [
        ToolCall("visits", {"member": "H-1"}, "call_0"),
        ToolCall("visits", {"member": "H-2"}, "call_1"),
    ]
    assert done.finish_reason == "stop"
    assert heard == ([""] * 4 if stream else [])  # each piece of a call is a sign of life, and none is text
    (offered,) = model.requests[0].body["tools"]
    assert offered == {
        "type": "function",
        "function": {"name": "visits", "description": "Visits that are left.", "parameters": VISITS.parameters},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("", None),
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ("visits", {"type": "function", "function": {"name": "visits"}}),
    ],
)
async def test_what_a_model_has_to_call_and_what_calls_brought_is_passed_on(
    model: ScriptedModel, choice: str, sent: object
) -> None:
    model.when("12 visits", Reply("Twelve.", tools=[("visits", "{}")]))
    calls = Message("assistant", "", [ToolCall("visits", {"member": "H-1"}, "c1")])
    turns = [*ASKED.messages, calls, Message("tool", "12 visits", tool_call_id="c1")]
    await engine(model, tools="native").complete(replace(ASKED, messages=turns, tools=[VISITS], tool_choice=choice))
    body = model.requests[0].body
    assert body.get("tool_choice") == sent
    function = {"name": "visits", "arguments": '{"member":"H-1"}'}
    assert body["messages"][-2:] == [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": "12 visits", "tool_call_id": "c1"},
    ]
    assert all(set(message) == {"role", "content"} for message in body["messages"][:-2])


@pytest.mark.parametrize("stream", [False, True])
async def test_probabilities_of_tokens_come_back_where_asked_for(model: ScriptedModel, stream: bool) -> None:
    model.when("capital", "Paris, of course.")

    async def ignore(piece: str, tokens: int = 0, /) -> None:
        """Only the completion counts here."""

    (done,) = await engine(model).complete(replace(ASKED, logprobs=2), ignore if stream else None)
    assert "".join(token.token for token in done.logprobs) == "Paris, of course."
    assert done.logprobs[0].top == {"Paris, ": -0.1, "other1": -6.0}
    (plain,) = await engine(model).complete(ASKED)
    assert plain.logprobs == []
    assert "logprobs" not in model.requests[1].body


async def test_usage_is_counted_here_where_the_endpoint_does_not_say(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris.", fault="no-usage"))
    (whole,) = await engine(model).complete(ASKED)
    assert whole.usage.prompt_tokens >= 8
    assert whole.usage.completion_tokens >= 1


async def test_tools_are_part_of_the_prompt_that_is_counted_here(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris.", fault="no-usage"))
    (whole,) = await engine(model).complete(replace(ASKED, tools=[Tool("visits", "Visits that are left. " * 100)]))
    assert 500 < whole.usage.prompt_tokens < 1000


async def test_a_stream_without_the_closing_line_is_whole_when_it_says_how_it_ended(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris.", fault="no-done"))
    assert (await streamed(engine(model), ASKED))[0] == "Paris."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(fault="hang"), "the model 'large' did not answer in time"),
        (Reply(fault="reset"), "the model 'large': the connection failed"),
        (Reply("Paris is the capital.", fault="half"), "the model 'large'"),
        (Reply(fault="garbage"), "the model 'large' sent something else than a completion"),
        (Reply("busy", status=500), "the model 'large' answered 500: busy"),
        (Reply("", status=503), "answered 503"),
        (Reply("slow down", status=429), "answered 429: slow down"),
        (Reply(" "), "the model 'large' sent an empty answer"),
        (Reply("Paris is", finish_reason="abort"), "the model 'large' broke off its answer"),
        (Reply("Paris is", finish_reason="error"), "the model 'large' broke off its answer"),
    ],
)
async def test_faults_that_may_heal_are_retryable(
    model: ScriptedModel, reply: Reply, reason: str, stream: bool
) -> None:
    model.when("capital", reply)
    client = engine(model)
    with pytest.raises(Retryable) as caught:
        await (streamed(client, ASKED) if stream else client.complete(ASKED))
    assert reason in str(caught.value)


async def test_an_error_in_the_middle_of_a_stream_is_retryable(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris is the capital.", fault="error-event"))
    with pytest.raises(Retryable, match="broke off: the engine died"):
        await streamed(engine(model), ASKED)


async def test_an_endpoint_that_is_not_there_is_retryable() -> None:
    async with ScriptedModel.running() as gone:
        client = engine(gone)
    with pytest.raises(Retryable, match="the connection failed"):
        await client.complete(ASKED)


async def test_retry_after_is_heeded(model: ScriptedModel) -> None:
    model.when("capital", Reply("slow down", status=429, headers={"Retry-After": "7"}))
    with pytest.raises(Retryable) as caught:
        await engine(model).complete(ASKED)
    assert caught.value.after == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2.5", 2.5),
        ("-1", 0.0),
        ("9999999", 3600.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("soon", None),
        ("", None),
        ("nan", None),
    ],
)
def test_retry_after_comes_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, now=60.0) == seconds


@pytest.mark.parametrize(
    ("reply", "code", "reason"),
    [
        (Reply("bad seed", status=400), "upstream", "the model 'large' answered 400: bad seed"),
        (Reply("no such model", status=404), "upstream", "the model 'large' answered 404: no such model"),
        (Reply("pay first", status=429, code="insufficient_quota"), "upstream", "answered 429: pay first"),
        (Reply("long", status=400, code="context_length_exceeded"), "too_large", "answered 400: long"),
        (Reply("This model's maximum context length is 4096 tokens.", status=400), "too_large", "maximum context"),
        (Reply("large", status=413), "too_large", "answered 413"),
        (Reply("", finish_reason="length"), "upstream", "used all 512 tokens before any text"),
    ],
)
async def test_faults_that_stay_fail_the_item(model: ScriptedModel, reply: Reply, code: str, reason: str) -> None:
    model.when("capital", reply)
    with pytest.raises(ItemError) as caught:
        await engine(model).complete(ASKED)
    assert caught.value.code == code
    assert reason in str(caught.value)


async def test_a_wrong_key_is_named_by_its_variable_and_never_shown(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.key = "another"
    model.when("capital", Reply(f"you sent {KEY}", status=400))
    caplog.set_level(logging.DEBUG)
    client = engine(model, api_key_env="THE_KEY")
    with pytest.raises(ItemError) as refused:
        await client.complete(ASKED)
    model.key = KEY
    with pytest.raises(ItemError) as echoed:
        await client.complete(ASKED)
    assert str(refused.value) == "the model 'large' refuses the key in THE_KEY (401)"
    assert str(echoed.value) == "the model 'large' answered 400: you sent …"
    assert model.requests[1].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


async def test_a_key_that_is_not_set_is_named_before_any_call(model: ScriptedModel) -> None:
    with pytest.raises(ItemError, match="the variable OTHER_KEY is not set"):
        await engine(model, api_key_env="OTHER_KEY").complete(ASKED)
    assert model.requests == []


@pytest.mark.parametrize(
    ("reply", "mode", "ending"),
    [
        (Reply("The documents do not say."), "refused", "stop"),
        (Reply("", refusal="I cannot help with that."), "refused", "refused"),
        (Reply("No.", finish_reason="content_filter"), "refused", "refused"),
        (Reply("Paris and", finish_reason="length"), "generated", "length"),
    ],
)
async def test_refusals_and_cut_answers_are_marked(model: ScriptedModel, reply: Reply, mode: str, ending: str) -> None:
    model.when("capital", reply)
    (completion,) = await engine(model).complete(ASKED)
    assert (completion.mode, completion.finish_reason) == (mode, ending)
    assert completion.text


async def test_the_wait_for_a_connection_is_not_the_endpoints_time(model: ScriptedModel) -> None:
    model.when("capital", Reply("Paris.", delay_s=0.4))
    entry = {"name": "large", "engine": "openai", "base_url": model.url, "id": "x", "timeout": Timeout(total=0.9)}
    client = OpenAI(Model.model_validate(entry), connections=1)
    found = await asyncio.gather(*(client.complete(ASKED) for _ in range(4)))  # 1.6 s in all, one after the other
    assert [completions[0].text for completions in found] == ["Paris."] * 4
    assert model.most_at_once == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_paid_for_once_it_has_its_connection(model: ScriptedModel, stream: bool) -> None:
    model.when("capital", Reply(fault="hang"))
    entry = {"name": "large", "engine": "openai", "base_url": model.url, "id": "x"}
    lost: list[Usage] = []
    served = Model.model_validate(entry)
    client = Metered(OpenAI(served, connections=1), lost.append, served)

    async def read(piece: str, tokens: int = 0, /) -> None:
        """A reader who does not mind."""

    sent = asyncio.create_task(client.complete(ASKED, read if stream else None))
    await model.until(lambda m: bool(m.requests))
    queued = asyncio.create_task(client.complete(ASKED, read if stream else None))
    await asyncio.sleep(0.05)
    for call, paid in ((queued, 0), (sent, 1)):
        call.cancel()
        await asyncio.wait({call})
        assert len(lost) == paid
    assert len(model.requests) == 1
    assert (lost[0].prompt_tokens > 0, lost[0].completion_tokens, lost[0].calls) == (True, 0, 1)


async def test_a_call_that_was_never_sent_costs_nothing() -> None:
    """The endpoint takes no connection: its queue of them has one place, which is taken."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        served = Model.model_validate({"name": "large", "engine": "openai", "base_url": url, "id": "x"})
        lost: list[Usage] = []
        call = asyncio.create_task(Metered(OpenAI(served), lost.append, served).complete(ASKED))
        await asyncio.sleep(0.3)
        call.cancel()
        await asyncio.wait({call})
    assert call.cancelled()
    assert lost == []


async def test_a_call_that_nobody_waits_for_is_closed(model: ScriptedModel) -> None:
    model.when("capital", Reply(fault="hang"))
    call = asyncio.create_task(engine(model, timeout={"read": 30}).complete(ASKED))
    await model.until(lambda m: bool(m.requests))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await model.until(lambda m: m.aborted == 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": {"message": "m", "code": "c"}}', "m"),
        (b'{"object": "error", "message": "m", "code": 400}', "m"),
        (b"<html><b>Bad gateway</b></html>", "Bad gateway"),
        (b'{"error": "just text"}', "just text"),
        (b"\xff\xfe", "��"),
    ],
)
def test_every_form_of_error_body_is_understood(content: bytes, message: str) -> None:
    assert message in fault_in(content).message


@pytest.mark.parametrize(
    ("delta", "at_work"),
    [
        (b'{"role": "assistant", "content": ""}', False),
        (b'{"content": "Paris"}', True),
        (b'{"refusal": "No."}', True),
        (b'{"tool_calls": [{"index": 0, "function": {"name": "visits"}}]}', True),
        (b'{"content": null, "reasoning_content": "They ask for"}', True),
        (b'{"content": "", "reasoning": "They ask for"}', True),
    ],
)
def test_whatever_a_model_writes_is_a_sign_that_it_is_at_work(delta: bytes, at_work: bool) -> None:
    assert msgspec.json.decode(delta, type=Text).at_work == at_work
