"""Two generate services with real engines and one route: the whole way of a question, and the death of a replica."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from servers import start_nats, start_redis

from client.client import Penstock
from contracts.events import Hop
from contracts.item import Input, Tool, ToolTurn
from contracts.job import Options
from real_vllm.running import MANUAL, START_S, Stack, kill, running, until
from services.route.domain.prompts import FOLDER

pytestmark = [pytest.mark.vllm, pytest.mark.servers, pytest.mark.timeout(1200)]

CHART = " ".join(f"Day {n}: the knee is measured, the range of motion is {60 + n} degrees." for n in range(40))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with ExitStack() as both:
        nats = both.enter_context(start_nats(tmp_path_factory.mktemp("nats")))
        redis = both.enter_context(start_redis(tmp_path_factory.mktemp("redis")))
        yield nats.url, redis


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(
    servers: tuple[str, str], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    async with running(*servers, folder, tmp_path_factory.mktemp("stack")) as opened:
        yield opened


async def test_a_question_streams_and_its_time_to_first_token_counts_from_its_submission(stack: Stack) -> None:
    result, hop, deltas = await stack.ask("How many days?")
    answer = result.items[0].answer
    assert answer is not None
    assert answer.text == "".join(delta.text for delta in deltas)
    assert [delta.index for delta in deltas] == list(range(len(deltas)))
    assert [delta.tokens for delta in deltas] == sorted(delta.tokens for delta in deltas)
    assert deltas[-1].finish_reason == answer.finish_reason
    assert deltas[-1].tokens == hop.usage.completion_tokens
    assert hop.ttft_ms > hop.prefill_ms > 0
    assert hop.decode_ms > 0


async def test_follow_ups_meet_the_replica_that_knows_the_manual_and_tenants_do_not_meet(stack: Stack) -> None:
    asked = [await stack.ask(f"Question {n}?", tenant="acme") for n in range(4)]
    assert len({hop.replica for _, hop, _ in asked}) == 1
    cached = [result.items[0].usage.cached_tokens for result, _, _ in asked]
    assert cached[0] == 0
    assert all(tokens > 500 for tokens in cached[1:])
    other, _, _ = await stack.ask("Question 0?", tenant="globex")
    assert other.items[0].usage.cached_tokens == 0


async def test_five_follow_ups_on_one_chart_compute_it_once(stack: Stack) -> None:
    """Pattern 1: a chart comes with every question of a session, and stands before the session's turns."""
    options = Options(session="chart-1", max_tokens=8)
    questions = [f"What was measured on day {n}?" for n in range(5)]
    found = [await stack.one("direct", Input(question=asked, context=CHART), options, "clinic") for asked in questions]
    first, *rest = [one.usage for one in found]
    assert first.cached_tokens == 0
    assert all(used.cached_tokens > 0.85 * first.prompt_tokens for used in rest)
    whole = found[-1].session
    assert whole is not None
    assert whole.calls == 5
    assert whole.cached_tokens == sum(used.cached_tokens for used in rest)


async def test_a_conversation_goes_on_behind_the_calls_of_its_tools(stack: Stack) -> None:
    """Asked, called, answered with what the call has brought; the session's next question has all of it before it."""
    count = {"type": "integer", "minimum": 0, "maximum": 9}
    form: dict[str, object] = {"type": "object", "properties": {"day": count}, "required": ["day"]}
    tools = [Tool("visits", "Visits on a day.", form | {"additionalProperties": False})]
    forced = Options(session="tools-1", tools=tools, tool_choice="visits", max_tokens=60)
    asked = await stack.one("direct", Input("How many visits?", context=CHART), forced, "desk")
    assert asked.answer is not None, asked.failure
    (call,) = asked.answer.tool_calls
    turns = [ToolTurn("assistant", tool_calls=[call]), ToolTurn("tool", "12 visits", tool_call_id=call.id)]
    free = Options(session="tools-1", tools=tools, tool_choice="auto", max_tokens=8)
    told = await stack.one("direct", Input("How many visits?", context=CHART, turns=turns), free, "desk")
    assert told.answer is not None, told.failure
    assert told.usage.cached_tokens > 0.85 * asked.usage.prompt_tokens, "it goes on where the call was asked for"
    after = await stack.one("direct", Input("And the day after?", context=CHART), free, "desk")
    assert after.usage.cached_tokens > told.usage.cached_tokens
    assert after.usage.prompt_tokens > told.usage.prompt_tokens > asked.usage.prompt_tokens
    assert after.session is not None
    assert after.session.calls == 3


async def test_experts_answer_for_themselves_and_their_caches_do_not_mix(stack: Stack) -> None:
    """Pattern 21: adapters on one engine, chosen by the gate; prompts of one text otherwise."""
    options = Options(prompt="policy", max_tokens=12)
    found = {}
    for question, expert in (("Leave?", "hr"), ("Ledger?", "finance"), ("Weather?", "house")):
        item = Input(question=question, variables={"manual": CHART})
        first, second = [await stack.one("mixture-of-experts", item, options, "experts") for _ in range(2)]
        assert first.answer is not None
        assert first.answer.model == expert
        assert first.usage.cached_tokens == 0, "nobody finds what other weights have computed"
        assert second.usage.cached_tokens > 500
        found[expert] = first.answer.text
    assert len(set(found.values())) == 3


async def test_a_new_version_of_a_prompt_goes_live_warm(stack: Stack, tmp_path: Path) -> None:
    """Route is started again with a second version: it answers with the first until the replica knows the second."""
    item, options = Input(question="Who is told?", variables={"manual": MANUAL}), Options(prompt="policy", max_tokens=8)
    await stack.one("direct", item, options, "rollout")
    shutil.copytree(FOLDER, tmp_path / "prompts")
    shutil.copytree(tmp_path / "prompts/policy/1", tmp_path / "prompts/policy/2")
    system = tmp_path / "prompts/policy/2/system.md"
    system.write_text("Answer in one sentence.\n" + system.read_text(encoding="utf-8"), encoding="utf-8")
    kill(stack.processes["route"])
    stack.start("route", "route", PENSTOCK_ROUTE_PROMPTS=str(tmp_path / "prompts"))
    answers: list[tuple[str, int]] = []
    while len(answers) < 60 and (not answers or answers[-1][0] == "policy@1"):
        done = await stack.one("direct", item, options, "rollout")
        assert done.answer is not None
        answers.append((done.answer.prompt, done.usage.cached_tokens))
    versions = [version for version, _ in answers]
    assert versions == [*["policy@1"] * (len(answers) - 1), "policy@2"]
    assert len(answers) > 1
    assert answers[-1][1] > 500, "its first question finds the manual computed"


async def test_questions_of_a_replica_that_dies_are_answered_by_the_other(stack: Stack) -> None:
    _, hop, _ = await stack.ask("Where is it?", tenant="acme")
    pid = int(hop.replica.rpartition("-")[2])
    name = next(name for name, process in stack.processes.items() if process.pid == pid)
    penstock = Penstock(stack.penstock.nc, "acme")
    options = Options(prompt="policy", max_tokens=300)
    items = [Input(question=f"Long {n}?", variables={"manual": MANUAL}) for n in range(3)]
    answered_by: set[str] = set()

    async def hear(message: Msg) -> None:
        done = msgspec.json.decode(message.data, type=Hop)
        answered_by.update([done.replica] if done.step == "generate" else [])

    await stack.penstock.nc.subscribe("events.acme.*", cb=hear)
    jobs = [(await penstock.submit("direct", [item], options, lane="interactive")).job for item in items]
    await asyncio.sleep(0.3)  # some of them are with the replica by now; which does not matter
    kill(stack.processes[name])
    results = [await stack.result("acme", job) for job in jobs]
    assert all(result.items[0].answer is not None for result in results)
    await until(lambda: bool(answered_by - {hop.replica}))


async def test_a_replica_that_joins_has_computed_what_moves_to_it(stack: Stack) -> None:
    """A second one is started beside the survivor of the test above, where sixteen manuals are warm; half move."""
    alone = {process.pid for process in stack.processes.values() if process.poll() is None}
    options = Options(prompt="policy", max_tokens=4)
    asked = [Input(f"Who is told in house {n}?", variables={"manual": f"House {n}. {MANUAL}"}) for n in range(16)]

    async def found() -> list[tuple[int, int]]:
        """Of each manual's question how many tokens came from the cache, and the process that answered."""
        jobs = [(await stack.penstock.submit("direct", [one], options)).job for one in asked]
        cached = [(await stack.result("default", job)).items[0].usage.cached_tokens for job in jobs]
        await until(lambda: all(job in stack.answered_by for job in jobs))
        return [(tokens, stack.answered_by[job]) for tokens, job in zip(cached, jobs, strict=True)]

    await found()
    assert {pid for _, pid in await found()} <= alone
    known = set(stack.replicas)
    stack.start("joined", "generate_gpu")
    await until(lambda: any(one.prefixes for name, one in stack.replicas.items() if name not in known), START_S)
    moved: set[int] = set()
    while not moved:
        answers = await found()
        assert all(tokens > 500 for tokens, _ in answers), "its first question, too, finds the manual computed"
        moved = {pid for _, pid in answers} - alone
    assert moved == {stack.processes["joined"].pid}


async def test_a_replica_that_is_told_to_stop_ends_its_engine_without_a_word(stack: Stack) -> None:
    process = stack.processes["joined"]
    engine = psutil.Process(process.pid).children(recursive=True)
    assert engine
    process.terminate()
    await asyncio.to_thread(process.wait, 120)
    assert process.returncode == 0
    _, left = psutil.wait_procs(engine, timeout=60)
    assert left == []
    said = (stack.place / "joined.log").read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert "Exception ignored" not in said


async def test_a_replica_that_dies_while_its_engine_opens_leaves_nothing_behind(stack: Stack) -> None:
    stack.start("early", "generate_gpu")
    process = psutil.Process(stack.processes["early"].pid)
    await until(lambda: any("EngineCore" in child.name() for child in process.children(recursive=True)), START_S)
    await asyncio.sleep(2)  # the guard looks twice a second
    kill(stack.processes["early"])
