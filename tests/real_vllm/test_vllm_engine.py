"""The vllm engine against a real vLLM: streams, prefix cache and its walls, cancelling, guided output, limits."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from jsonschema import validate
from msgspec.structs import replace

from contracts.item import Completion, Message
from services.generate_gpu.app import open_vllm
from services.generate_gpu.domain.completion import Away, CompletionRequest, Engine
from services.generate_gpu.domain.salt import salt
from services.generate_gpu.engines.vllm import Vllm
from services.generate_gpu.engines.vllm_host import Host
from shared.errors import ItemError, Retryable, Unusable
from shared.models import Model, Timeout
from shared.settings import SettingsError

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CONTEXT = 2048
MANUAL = "Section {n}: the policy says what to do in case {n}, and who is to be told about it. "
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"covered": {"type": "boolean"}, "visits": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["covered", "visits"],
    "additionalProperties": False,
}


def asked(
    question: str = "What now?", manual: str = "manual", tenant: str = "acme", **fields: object
) -> CompletionRequest:
    """About 500 tokens of policy and a question; `manual` makes it another policy."""
    system = f"{manual}. " + "".join(MANUAL.format(n=n) for n in range(20))
    request = CompletionRequest([Message("system", system), Message("user", question)], salt=salt(tenant, "rag@1"))
    return replace(request, **{"max_tokens": 8, **fields})


async def one(engine: Engine, request: CompletionRequest) -> Completion:
    return (await engine.complete(request))[0]


@asynccontextmanager
async def opened(model: Model, **fields: object) -> AsyncIterator[Vllm]:
    """An engine that a test has for itself, to do with it what it likes."""
    engine = open_vllm([model.model_copy(update=fields)])[model.name]
    assert isinstance(engine, Vllm)
    try:
        yield engine
    finally:
        await engine.close()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("it did not become true within 10 s")


def unfinished(engine: Engine) -> int:
    assert isinstance(engine, Vllm)
    running = engine._host._engine
    return 0 if running is None else running.get_num_unfinished_requests()


async def test_a_stream_is_in_order_and_complete(plain: Engine) -> None:
    pieces: list[tuple[str, int]] = []

    async def keep(text: str, tokens: int = 0, /) -> None:
        pieces.append((text, tokens))

    request = asked("Tell me a story.", max_tokens=40, seed=3, temperature=1.0)
    (streamed,) = await plain.complete(request, keep)
    assert len(pieces) > 5
    assert streamed.text == "".join(text for text, _ in pieces)
    assert streamed.usage.completion_tokens == sum(tokens for _, tokens in pieces)
    whole = await one(plain, request)
    assert whole.text == streamed.text


async def test_a_stream_says_how_long_each_phase_took(plain: Engine) -> None:
    done = await one(plain, asked(max_tokens=12))
    assert done.timing.first_at > 1e9
    assert done.timing.prefill_ms > 0
    assert done.timing.decode_ms > 0


async def test_a_prefix_is_computed_once(plain: Engine) -> None:
    cold = await one(plain, asked("First?", manual="once"))
    warm = await one(plain, asked("Second?", manual="once"))
    assert cold.usage.cached_tokens == 0
    assert warm.usage.cached_tokens > 0.8 * warm.usage.prompt_tokens


async def test_no_tenant_is_served_what_another_has_filled(plain: Engine) -> None:
    request = asked(manual="walls")
    await one(plain, request)
    assert (await one(plain, request)).usage.cached_tokens > 0
    other = await one(plain, replace(request, salt=salt("globex", "rag@1")))
    assert other.usage.cached_tokens == 0


async def test_no_policy_version_is_served_what_another_has_filled(plain: Engine) -> None:
    request = asked(manual="versions")
    await one(plain, request)
    other = await one(plain, replace(request, salt=salt("acme", "rag@2")))
    assert other.usage.cached_tokens == 0


async def test_adapters_answer_differently_and_their_caches_do_not_mix(engines: dict[str, Engine]) -> None:
    request = asked(manual="adapters", max_tokens=16)
    answers = {name: await one(engine, request) for name, engine in engines.items()}
    assert {name: answer.usage.cached_tokens for name, answer in answers.items()} == {"plain": 0, "hr": 0, "finance": 0}
    assert len({answer.text for answer in answers.values()}) == 3
    again = {name: await one(engine, request) for name, engine in engines.items()}
    assert all(answer.usage.cached_tokens > 0 for answer in again.values())
    assert [answer.text for answer in again.values()] == [answer.text for answer in answers.values()]


async def test_samples_differ_and_their_prompt_counts_once(plain: Engine) -> None:
    found = await plain.complete(asked("Sample.", manual="samples", n=4, temperature=1.0))
    assert len({completion.text for completion in found}) == 4
    assert found[0].usage.cached_tokens == 0
    assert found[0].usage.completion_tokens == 32
    assert sum(completion.usage.calls for completion in found) == 1


async def test_the_same_seed_says_the_same(plain: Engine) -> None:
    texts = [(await one(plain, asked(temperature=1.0, seed=seed))).text for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


async def test_each_sample_of_a_call_has_the_seed_behind_that_of_the_one_before(plain: Engine) -> None:
    """So `Purchase` gives a sample that is drawn again a seed behind all of them."""
    found = await plain.complete(asked(temperature=1.0, n=3, seed=7))
    texts = [(await one(plain, asked(temperature=1.0, seed=seed))).text for seed in (7, 8, 9)]
    assert [completion.text for completion in found] == texts


async def test_a_stop_word_ends_the_text(plain: Engine) -> None:
    request = asked(max_tokens=30, temperature=1.0, seed=5)
    whole = (await one(plain, request)).text
    stop = next(whole[at : at + 3] for at in range(4, len(whole)) if whole.index(whole[at : at + 3]) == at)
    done = await one(plain, replace(request, stop=[stop]))
    assert done.text == whole[: whole.index(stop)]
    assert done.finish_reason == "stop"


async def test_an_answer_without_text_says_what_it_has_used_streamed_or_not(plain: Engine) -> None:
    async def read(text: str, tokens: int = 0, /) -> None:
        """A reader who does not mind."""

    request = asked(max_tokens=30, temperature=1.0, seed=5)
    whole = await one(plain, request)
    used = []
    for on_delta in (None, read):
        with pytest.raises(ItemError, match="gave no text") as caught:
            await plain.complete(replace(request, stop=[whole.text[:1]]), on_delta)
        assert caught.value.usage is not None
        used.append(caught.value.usage)
    assert used[0] == used[1]
    assert used[0].prompt_tokens == whole.usage.prompt_tokens
    assert used[0].completion_tokens > 0


async def test_output_fits_the_schema(plain: Engine) -> None:
    for seed in range(3):
        done = await one(plain, asked(schema=SCHEMA, temperature=1.0, seed=seed, max_tokens=64))
        validate(json.loads(done.text), SCHEMA)


async def test_a_schema_that_cannot_be_kept_to_fails_the_item(plain: Engine) -> None:
    with pytest.raises(ItemError) as caught:
        await one(
            plain, asked(schema={"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)["}}})
        )
    assert caught.value.code == "malformed"
    assert "'plain' refuses the request" in str(caught.value)


async def test_a_prompt_longer_than_the_window_fails_the_item(plain: Engine) -> None:
    request = CompletionRequest([Message("user", "far too long " * CONTEXT)])
    with pytest.raises(ItemError, match="the model 'plain' takes 2048 with the answer") as caught:
        await plain.complete(request)
    assert caught.value.code == "too_large"


async def test_a_model_that_never_stops_is_stopped(plain: Engine) -> None:
    """A schema keeps it from ending its text by itself."""
    endless: dict[str, object] = {"type": "array", "items": {"type": "integer"}, "minItems": 100_000}
    done = await one(plain, asked(schema=endless, max_tokens=10_000_000))
    assert done.usage.prompt_tokens + done.usage.completion_tokens == CONTEXT
    assert done.finish_reason == "length"


async def test_a_call_that_nobody_waits_for_is_aborted_in_the_engine(plain: Engine) -> None:
    call = asyncio.create_task(plain.complete(asked("Go on.", max_tokens=1500)))
    await until(lambda: unfinished(plain) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: unfinished(plain) == 0)


async def test_a_reader_that_fails_frees_the_engine(plain: Engine) -> None:
    async def broken(text: str, tokens: int = 0, /) -> None:
        raise Retryable("the reader is gone")

    with pytest.raises(Retryable, match="the reader is gone"):
        await plain.complete(asked(max_tokens=1500), broken)
    await until(lambda: unfinished(plain) == 0)


async def test_many_calls_run_in_one_batch(plain: Engine) -> None:
    assert isinstance(plain, Vllm)
    before = plain._host.pulse.steps
    calls = [one(plain, asked(f"Question {n}?", manual="batch", max_tokens=30)) for n in range(8)]
    said = await asyncio.gather(*calls)
    assert all(one.text for one in said)
    tokens = sum(one.usage.completion_tokens for one in said)
    assert tokens > 100
    assert plain._host.pulse.steps - before < tokens / 2  # of one after the other each token were a step


@pytest.mark.parametrize("limit", ["QueueOverflowError", "MaxQueuedTokensError"])
async def test_an_engine_that_takes_no_more_calls_for_now_is_tried_again(
    models: list[Model], limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import exceptions

    async def full(*_: object) -> list[int]:
        raise getattr(exceptions, limit)()

    engine = open_vllm(models)["plain"]  # nothing is opened before it is needed
    monkeypatch.setattr(Host, "prompt", full)
    with pytest.raises(Retryable, match="the engine of the model 'plain' takes no more calls now: The engine "):
        await engine.complete(asked())


async def test_an_engine_that_dies_is_said_to_and_started_again(models: list[Model]) -> None:
    async with opened(models[0]) as engine:
        await one(engine, asked())
        call = asyncio.create_task(engine.complete(asked(max_tokens=1500)))
        await until(lambda: unfinished(engine) == 1)
        _kill_core(engine)
        with pytest.raises(Retryable, match="the engine of the model 'plain' has died"):
            await call
        with pytest.raises(Away, match="has died; it is started again"):
            await one(engine, asked())
        async with asyncio.timeout(120):
            while not engine.ready():  # noqa: ASYNC110 - a new engine takes seconds
                await asyncio.sleep(0.1)
        assert (await one(engine, asked())).usage.cached_tokens == 0


async def test_an_answer_that_an_engine_breaks_off_as_it_is_told_to_end_is_none(models: list[Model]) -> None:
    """Ctrl-C reaches the engine's processes, too: vLLM gives what it has as an answer that was aborted."""
    async with opened(models[0]) as engine:
        await one(engine, asked())
        call = asyncio.create_task(engine.complete(asked(max_tokens=1500)))
        await until(lambda: unfinished(engine) == 1)
        _newest_core().terminate()
        with pytest.raises(Retryable, match="the model 'plain' broke off its answer"):
            await call


async def test_an_engine_that_is_closed_does_not_look_like_one_that_died(
    models: list[Model], capfd: pytest.CaptureFixture[str]
) -> None:
    async with opened(models[0]) as engine:
        await one(engine, asked(max_tokens=1))
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    said = capfd.readouterr()
    assert "Dead" not in said.out + said.err


async def test_who_waits_while_the_engine_is_closed_hears_of_it(models: list[Model]) -> None:
    async with opened(models[0]) as engine:
        await one(engine, asked(max_tokens=1))
        call = asyncio.create_task(engine.complete(asked(max_tokens=1500)))
        await until(lambda: unfinished(engine) == 1)
    with pytest.raises(Retryable):
        async with asyncio.timeout(10):
            await call


async def test_an_engine_that_hangs_is_ended_and_started_again(models: list[Model]) -> None:
    async with opened(models[0], timeout=Timeout(read=4)) as engine:
        await engine.start()
        await one(engine, asked())
        core = _newest_core()
        core.suspend()
        with pytest.raises(Retryable, match="the engine of the model 'plain' has died"):
            await one(engine, asked("And now?"))
        async with asyncio.timeout(120):
            while not engine.ready():  # noqa: ASYNC110 - a new engine takes seconds
                await asyncio.sleep(0.1)
        assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE
        assert (await one(engine, asked())).text


async def test_an_engine_that_is_at_work_for_longer_is_left_alone(models: list[Model]) -> None:
    async with opened(models[0], timeout=Timeout(read=1)) as engine:
        await engine.start()
        core = _newest_core()
        began = time.monotonic()
        while time.monotonic() - began < 4:
            await asyncio.gather(*(one(engine, asked(f"Question {n}?", max_tokens=1500)) for n in range(2)))
        await asyncio.sleep(2)
        assert engine.ready()
        assert core.is_running()


async def test_an_engine_whose_cache_has_no_room_says_what_to_lower(models: list[Model]) -> None:
    cramped = {**models[0].settings, "num_gpu_blocks_override": 1}
    async with opened(models[0], settings=cramped) as engine:
        with pytest.raises(Retryable, match=r"tiny does not start: .*where memory is short, lower context"):
            await engine.start()


async def test_a_setting_that_cannot_be_is_named_in_one_line(models: list[Model]) -> None:
    async with opened(models[0], settings={"dtype": "nonsense"}) as engine:
        with pytest.raises(SettingsError, match=r"models\.yaml: the engine of .*tiny refuses its settings: .*dtype"):
            await engine.start()


def _kill_core(engine: Engine) -> None:
    """The newest engine core among our children, with its workers."""
    assert isinstance(engine, Vllm)
    newest = _newest_core()
    for process in [newest, *newest.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)


def _newest_core() -> psutil.Process:
    found = psutil.Process().children(recursive=True)
    children = [child for child in found if child.status() != psutil.STATUS_ZOMBIE]  # of engines of earlier tests
    cores = [child for child in children if "EngineCore" in " ".join(child.cmdline()) or "EngineCore" in child.name()]
    return max(cores, key=lambda child: child.create_time())


def test_an_adapter_without_weights_is_named(folder: Path, models: list[Model]) -> None:
    broken = models[0].model_copy(update={"name": "broken", "adapter": str(folder / "tiny")})
    with pytest.raises(SettingsError, match=r"adapter .*tiny: No such file.*adapter_config\.json"):
        open_vllm([broken])


def renamed(adapter: Path) -> None:
    """Weights of names that no layer has."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file({name.replace("lora_A", "lora_C"): weight for name, weight in load_file(file).items()}, file)


def of_another_rank(adapter: Path) -> None:
    about = adapter / "adapter_config.json"
    about.write_text(about.read_text(encoding="utf-8").replace('"r": 16', '"r": 8'), encoding="utf-8")


@pytest.mark.parametrize("broken", [renamed, of_another_rank])
async def test_an_adapter_that_cannot_be_loaded_does_not_end_the_engine_of_the_others(
    models: list[Model], tmp_path: Path, broken: Callable[[Path], None]
) -> None:
    from loadtest.tiny_model import write_adapter

    place = tmp_path / "bad"
    write_adapter(place, rank=16)
    broken(place)
    bad = models[1].model_copy(update={"name": "bad", "adapter": str(place)})
    engines = open_vllm([models[0], bad])
    plain = engines["plain"]
    assert isinstance(plain, Vllm)
    try:
        going_on = asyncio.create_task(one(plain, asked(max_tokens=300)))
        async with asyncio.timeout(120):
            while unfinished(plain) == 0:  # noqa: ASYNC110 - a new engine takes seconds
                await asyncio.sleep(0.1)
        for _ in range(2):
            calls = [one(engines["bad"], asked()) for _ in range(3)]
            for failed in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(failed, Unusable)
                assert f"the model 'bad': vLLM cannot load {place}: " in str(failed)
        assert (await going_on).text
        assert (await one(plain, asked())).usage.cached_tokens > 0, "it is the same engine"
    finally:
        await plain.close()


def test_a_setting_that_vllm_does_not_know_is_named(models: list[Model]) -> None:
    broken = models[0].model_copy(update={"settings": {"no_such_thing": 1}})
    with pytest.raises(SettingsError, match=r"model 'plain': settings\.no_such_thing: vLLM has no such argument"):
        open_vllm([broken])
