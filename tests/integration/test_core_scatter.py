"""Scatter and gather: samples, parts, branches, nested; in order, with failures, with sums."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from in_process import Core, GenerateSettings, eventually, question

from contracts import subjects
from contracts.item import Answer, Failure, Item, Part, Usage
from contracts.steps import AnyStep, Decide, Generate, Join, Rerank, Scatter
from contracts.subjects import GROUPS, PARKED, SHARD, WORK
from contracts.task import Arrival, Parked, Task
from services.route.domain.pattern import Pattern
from shared.outcome import Child, Spread

pytestmark = pytest.mark.servers

COST = Usage(prompt_tokens=10, completion_tokens=2, calls=1, cost_usd=0.5)


async def sample(task: Task, step: Generate) -> Sequence[Item]:
    """Each child answers with its place; later ones are quicker, so that they come back in the wrong order."""
    await asyncio.sleep(0.02 * max(0, 4 - task.items[0].part))
    return [
        msgspec.structs.replace(item, answer=Answer(f"{item.n}/{item.part}: {item.input.context}"), usage=COST)
        for item in task.items
    ]


class Gathered:
    """The step after the scatter: keeps what it sees and answers with it."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.times = 0

    async def __call__(self, task: Task, step: Rerank) -> Sequence[Item]:
        self.times += 1
        self.items.extend(task.items)
        return [
            msgspec.structs.replace(item, answer=Answer(" | ".join(part.text for part in item.parts)))
            for item in task.items
        ]


async def generate(core: Core, handler: object = sample) -> None:
    worker = core.worker(GenerateSettings(ack_wait_s=2))
    worker.on(Generate, handler)  # type: ignore[arg-type]  # handlers of several steps share this helper
    await worker.start()


async def test_samples_come_back_as_parts_in_order_and_their_usage_adds_up(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await generate(core)
    await core.rerank(seen)
    steps: list[AnyStep] = [Scatter([Generate(model="m")], over="samples", n=5), Rerank()]
    await core.start_job(steps, [[question(0), question(1)]])
    report = await core.report()
    assert [item.n for item in seen.items] == [0, 1]
    for item in seen.items:
        assert [(part.index, part.text) for part in item.parts] == [(k, f"{item.n}/{k}: ") for k in range(5)]
        assert (item.usage.calls, item.usage.cost_usd) == (5, 2.5)
    assert (report.succeeded, report.usage.calls, report.usage.cost_usd) == (2, 10, 5.0)


async def test_each_part_of_an_item_is_worked_on_by_itself(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await generate(core)
    await core.rerank(seen)
    some = msgspec.structs.replace(question(0), parts=[Part(k, f"section {k}") for k in range(5)])
    none = question(1)
    await core.start_job([Scatter([Generate(model="m")], over="parts"), Rerank()], [[some, none]])
    await core.report()
    assert [part.text for part in seen.items[0].parts] == [f"0/{k}: section {k}" for k in range(5)]
    assert seen.items[1].parts == []


async def test_a_scatter_of_nothing_goes_on(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await core.rerank(seen)
    await core.start_job([Scatter([Generate(model="m")], over="parts"), Rerank()], [[question(0)]])
    assert (await core.report()).succeeded == 1
    assert seen.times == 1


async def test_failed_children_come_back_as_failed_parts(core: Core) -> None:
    async def third_fails(task: Task, step: Generate) -> Sequence[Item]:
        failure = Failure("upstream", "429", "generate")
        done = await sample(task, step)
        return [msgspec.structs.replace(item, failure=failure) if item.part == 2 else item for item in done]

    seen = Gathered()
    await core.route()
    await generate(core, third_fails)
    await core.rerank(seen)
    await core.start_job([Scatter([Generate(model="m")], n=4), Rerank()], [[question(0)]])
    report = await core.report()
    assert [part.failure.code if part.failure else "" for part in seen.items[0].parts] == ["", "", "upstream", ""]
    assert (report.succeeded, report.usage.calls) == (1, 4)  # what failed has cost something too


async def test_a_child_that_cannot_be_read_is_a_failed_part_in_its_own_place(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await core.rerank(seen)
    await core.start_job([Scatter([Generate(model="m")], n=3), Rerank()], [[question(0), question(1)]])
    await eventually(lambda: _children_wait(core, 3))
    group = f"{core.group()}/0/0"
    await _take_away(core, f"{group}/1")
    await core.bus.publish("work.generate.m.interactive", b"\xc1", headers={SHARD: f"{group} 1 0,1"})
    await generate(core)
    await core.report()
    for item in seen.items:
        assert [part.index for part in item.parts] == [0, 1, 2]
        assert [part.index for part in item.parts if part.failure] == [1]


async def test_branches_go_different_ways_and_meet_again(core: Core) -> None:
    def way(item: Item, options: object) -> list[Generate]:
        return [] if item.n == 1 else [Generate(model="a" if item.n % 2 == 0 else "b")]

    async def answer_with_model(task: Task, step: Generate) -> Sequence[Item]:
        failure = Failure("upstream", "429", "generate")
        return [
            msgspec.structs.replace(
                item, draft=step.model, usage=item.usage + COST, failure=failure if item.n == 3 else None
            )
            for item in task.items
        ]

    seen = Gathered()
    await core.route(pattern=Pattern("p", "p", open=lambda options: [], decide=way))  # type: ignore[arg-type]  # Generate is one of AnyStep
    await generate(core, answer_with_model)
    await core.rerank(seen)
    await core.start_job([Decide(), Rerank()], [[question(n) for n in range(5)]])
    report = await core.report()
    assert [(item.n, item.draft) for item in seen.items] == [(0, "a"), (1, ""), (2, "a"), (4, "a")]
    assert (report.succeeded, report.failed, report.reasons) == (4, 1, {"upstream": 1})
    assert report.usage.calls == 4


async def test_a_scatter_inside_a_scatter(core: Core) -> None:
    async def join_texts(task: Task, step: Rerank) -> Sequence[Item]:
        texts = [",".join(part.text for part in item.parts) for item in task.items]
        return [
            msgspec.structs.replace(item, answer=Answer(text)) for item, text in zip(task.items, texts, strict=True)
        ]

    await core.route()
    await generate(core)
    await core.rerank(join_texts)
    inner: list[AnyStep] = [Scatter([Generate(model="m")], n=2), Rerank()]
    await core.start_job([Scatter(inner, n=3), Rerank()], [[question(0)]])
    report = await core.report()
    answer = (await core.shard()).items[0].answer
    assert answer is not None
    assert answer.text == ",".join(["0/0: ,0/1: "] * 3)
    assert (report.succeeded, report.usage.calls) == (1, 6)
    assert await core.redis.keys("group:*") == []
    assert await core.bus.find_parked(core.group()) is None


async def test_a_join_that_comes_twice_goes_on_once(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await generate(core)
    await core.rerank(seen)
    (task,) = await core.start_job([Scatter([Generate(model="m")], n=2), Rerank()], [[question(0)]])
    await core.report()
    join = msgspec.structs.replace(task, items=[], steps=[Join(f"{core.group()}/0/0")])
    await core.bus.publish("work.route.interactive", msgspec.msgpack.encode(join))
    await eventually(lambda: _all_done(core))
    assert seen.times == 1
    assert await core.dead() == []


async def test_a_scatter_that_comes_again_after_its_join_leaves_nothing_behind(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await generate(core)
    await core.rerank(seen)
    (task,) = await core.start_job([Scatter([Generate(model="m")], n=2), Rerank()], [[question(0)]])
    await core.report()
    await eventually(lambda: _all_done(core))
    again = Child([question(0)], [Generate(model="m")])
    rest = msgspec.structs.replace(task, steps=[Rerank()])
    await core.hops.scatter(rest, Spread([question(0)], [again, again], "parts"), {})
    assert await core.bus.find_parked(f"{core.group()}/0/0") is None
    assert await _all_done(core)
    assert seen.times == 1


async def test_what_is_parked_may_be_larger_than_a_message(core: Core) -> None:
    seen = Gathered()
    await core.route()
    await generate(core)
    await core.rerank(seen)
    await core.start_job([Scatter([Generate(model="m")], n=2), Rerank()], [[question(0, "y" * 900_000)]])
    report = await core.report()
    assert (report.succeeded, len(seen.items[0].question)) == (1, 900_000)
    headers = (await core.bus.js.get_last_msg(f"KV_{PARKED.name}", f"$KV.{PARKED.name}.{core.group()}/0/0")).headers
    assert (headers or {}).get("KV-Operation") == "PURGE"


async def test_a_join_that_can_never_succeed_fails_its_parent(core: Core) -> None:
    """What comes after the group is for route too, and no pattern of this name is known."""
    await core.route()
    await generate(core)
    await core.start_job([Scatter([Generate(model="m")], n=2), Decide()], [[question(0), question(1)]])
    report = await core.report()
    assert report.reasons == {"malformed": 2}
    assert "no such pattern 'p'" in report.failures[0].reason
    assert len(await core.dead()) == 1


async def test_an_item_whose_branch_left_no_result_fails(core: Core) -> None:
    (task,) = await core.start_job([Rerank()], [[question(0)]])
    spread = Spread([question(0)], [Child([question(0)], [Generate(model="m")])] * 2, "parts")
    await core.hops.scatter(task, spread, {})
    group = f"{task.id}/0"
    parked = await core.hops.parked(group)
    assert parked is not None
    assert parked.children == [[(0, 0)], [(0, 0)]]
    await core.bus.park(group, msgspec.msgpack.encode(msgspec.structs.replace(parked, merge="items")))
    lost = Arrival(group, 0, [question(9)])
    await core.bus.publish(subjects.arrival(group, 0), msgspec.msgpack.encode(lost))
    joined = await core.hops.join(group)
    assert joined is not None
    assert [item.failure.reason if item.failure else "" for item in joined.items] == [
        "a part of the work did not come back"
    ]


def test_parked_of_the_first_form_can_be_read() -> None:
    old = msgspec.msgpack.encode({"task": Task("t/j/0", "t", "j", "p", [], [], "t/j", 0), "size": 2})
    assert msgspec.msgpack.decode(old, type=Parked).children == []


async def _children_wait(core: Core, children: int) -> bool:
    return len(await core.messages(WORK.name, "work.generate.m.interactive")) == children


async def _take_away(core: Core, child: str) -> None:
    state = (await core.bus.js.stream_info(WORK.name)).state
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await core.bus.js.get_msg(WORK.name, sequence)
        if msgspec.msgpack.decode(message.data or b"", type=Task).id == child:
            await core.bus.js.delete_msg(WORK.name, sequence)


async def _all_done(core: Core) -> bool:
    return await core.count(WORK.name) == 0 and await core.count(GROUPS.name) > 0
