"""Moving work on: forward a task, scatter it, let it arrive, join a group. Every action may be repeated.

Shapes and order follow docs/architecture.md ("Scatter and gather"); each publish carries a deterministic message id or
goes to a write-once subject, and a child is counted by setting its bit.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
from nats.js.api import RawStreamMsg

from contracts import subjects
from contracts.item import Failure, Item
from contracts.job import ItemResult, ShardResult
from contracts.steps import Expire, Join, Open
from contracts.subjects import BURIED, GROUPS, RESULTS, SCHEDULE, SCHEDULE_TARGET, SHARD, TALLY
from contracts.task import Arrival, Cursor, Parked, Tally, Task
from shared.bus import Bus, at
from shared.errors import Later
from shared.gather import children_of, lost_child, merged
from shared.groups import Count, Groups
from shared.outcome import Child, Spread
from shared.recount import find_cursor, recount, window_key
from shared.redriven import replace
from shared.results import item_result, shard_result, tally
from shared.room import Room
from shared.tracing import traced_again, untraced

LATE = Failure("deadline_exceeded", "deadline exceeded: the group's time was over", "route")

_PUBLISH_AT_ONCE = 256
_HEADERS_MAX = 4096  # bytes, of a reply
_ERROR_CODES = {"busy": "503", "over_limit": "429", "over_budget": "402"}  # as in HTTP


@dataclass(frozen=True)
class Hops:
    """The effects that the worker has on the bus and on groups. `trace` gives the headers of the current span."""

    bus: Bus
    groups: Groups
    check_s: float = 60.0  # the first recount of a group that takes long; the next ones when its age has doubled
    traced: int = 10  # children of a group that have spans: those of a thousand shards would tell no more

    @cached_property
    def room(self) -> Room:
        """Where whoever adds tasks to WORK asks for places."""
        return Room(self.bus)

    async def forward(self, task: Task, headers: dict[str, str]) -> None:
        """Publish a task to the service of its next step."""
        await self.bus.publish(
            subjects.work(task.steps[0], task.lane),
            msgspec.msgpack.encode(task),
            msg_id=f"{task.id}.{task.hop}",
            headers={**headers, SHARD: shard_header(task)},
        )

    async def scatter(self, task: Task, spread: Spread, headers: dict[str, str]) -> None:
        """Park the parent, make the group known, publish the children; nothing where the group has gone on before.

        Raises Later where WORK has no room for (all of) them: then it is repeated, and goes on where it was.
        """
        group = f"{task.id}/{task.hop}"
        if await self.bus.gone_on(group):
            return
        parent = msgspec.structs.replace(task, items=list(spread.items), hop=task.hop + 1)
        children = [_child(task, group, index, child) for index, child in enumerate(spread.children)]
        places = [[(item.n, item.part) for item in child.items] for child in spread.children]
        async with self.room.places(task.lane, depth_of(group), 1):  # who cannot begin leaves nothing behind
            opened = await self.open_group(group, Parked(parent, len(children), spread.merge, children=places))
        await self.add(group, children[opened:], headers)

    async def open_group(self, group: str, parked: Parked) -> int:
        """Park what waits for the group, count from nought, and set its alarm. Returns how many of its children were
        published before there was no room for more: 0 but for a repetition."""
        _, count, _ = await asyncio.gather(
            self.bus.park(group, msgspec.msgpack.encode(parked)),
            self.groups.open(group, parked.size),
            self._set_alarm(group, parked.task),
        )
        return count.published

    async def add(self, group: str, tasks: Sequence[Task], headers: dict[str, str]) -> None:
        """Publish children of a group, in the order of their indices, as WORK has room for them.

        Raises Later where it has none left, and notes how many are out.
        """
        done = 0
        while done < len(tasks):
            lane, first = tasks[done].lane, tasks[done].index
            try:
                async with self.room.places(lane, depth_of(group), len(tasks) - done) as free:
                    await self.publish_all(tasks[done : done + free], headers)
                    done += free
            except Later:
                await self.groups.note_published(group, first)
                raise

    async def publish_all(self, tasks: Sequence[Task], headers: dict[str, str]) -> None:
        """Forward the living ones, let the dead ones arrive."""
        rest = untraced(headers)
        for start in range(0, len(tasks), _PUBLISH_AT_ONCE):
            some = tasks[start : start + _PUBLISH_AT_ONCE]
            await asyncio.gather(*(self.go_on(task, headers if task.index < self.traced else rest) for task in some))

    async def go_on(self, task: Task, headers: dict[str, str]) -> None:
        """To the next service, or, where nothing is left to do or nobody left to do it for, to the group."""
        if task.steps and any(item.at_work for item in task.items):
            await self.forward(task, headers)
        else:
            await self.arrive(task, headers)

    async def arrive(self, task: Task, headers: dict[str, str], *, buried: bool = False) -> None:
        """Write the result, count it, and wake the join where it was the last. Order matters: see the architecture.

        `buried`: the task is a dead letter; once mended and sent again, its result may take the place of this one.
        """
        counts = await self._write_result(task, headers, buried)
        count = await self.groups.arrive(task.group, task.index, counts)
        if count.size == 0:
            count = await self._recount(task.group)
        if count.complete:
            await self.forward_join(task, headers)
        elif count.mark:
            await self.forward_open(task, count.mark, headers)

    async def forward_open(self, task: Task, mark: int, headers: dict[str, str]) -> None:
        """Have more shards of a large job published. It may come twice: only the mark that the cursor names counts."""
        await self._wake(task, Open(task.group, mark), f"{task.group}.open.{mark}", headers)

    async def forward_join(self, task: Task, headers: dict[str, str]) -> None:
        """Wake whoever joins the group of this task. A join that finds nothing parked is done, so it may come twice."""
        await self._wake(task, Join(task.group), f"{task.group}.join", headers)

    async def _wake(self, task: Task, step: Join | Open, msg_id: str, headers: dict[str, str]) -> None:
        wake = msgspec.structs.replace(task, id=msg_id, items=[], steps=[step], hop=0, spent_s=0.0)
        await self.bus.publish(
            subjects.work(step, wake.lane), msgspec.msgpack.encode(wake), msg_id=msg_id, headers=traced_again(headers)
        )

    async def parked(self, group: str) -> Parked | None:
        """What waits for a group; None where it has gone on."""
        raw = await self.bus.find_parked(group)
        return None if raw is None else msgspec.msgpack.decode(raw, type=Parked)

    async def join(self, group: str) -> Task | None:
        """The parked parent with what its children brought; None where it has gone on before."""
        parked = await self.parked(group)
        if parked is None:
            return None
        if parked.merge == "report":
            return parked.task
        return merged(parked, await children_of(self.bus, group, parked.size))

    async def cursor(self, group: str) -> Cursor | None:
        """Up to where a large job has been opened; None where all of it is."""
        return await find_cursor(self.bus, group)

    async def move_cursor(self, group: str, cursor: Cursor | None) -> None:
        """Note up to where a large job has been opened; None: all of it is."""
        if cursor is None:
            await self.bus.unpark(window_key(group))
        else:
            await self.bus.park(window_key(group), msgspec.msgpack.encode(cursor))

    async def joined(self, group: str) -> None:
        """Forget a group that has gone on."""
        await self.bus.unpark(group)
        await self.groups.forget(group)

    async def expire(self, group: str, headers: dict[str, str]) -> None:
        """A group's alarm. Redis may have lost what it knew, so recount. Past the deadline, what is missing fails."""
        parked = await self.parked(group)
        if parked is None:
            return
        found = await recount(self.bus, self.groups, group, parked)
        deadline, waiting = parked.task.deadline, msgspec.structs.replace(parked.task, group=group)
        if found.count.complete:
            await self.forward_join(waiting, headers)
        elif deadline is not None and time.time() >= deadline:
            if await self.cursor(group) is not None:
                await self.move_cursor(group, None)  # what has not been opened never will be
            await self.publish_all([lost_child(parked, group, index, LATE) for index in found.missing], headers)
        else:
            if found.count.mark:
                await self.forward_open(waiting, found.count.mark, headers)
            await self._set_alarm(group, parked.task)

    async def _write_result(self, task: Task, headers: dict[str, str], buried: bool) -> Tally:
        """Write once; where a result is there already, that one counts. An ask gets what is stored as its reply."""
        counts = tally(task.items, task.spent_s)
        head = {**headers, TALLY: msgspec.json.encode(counts).decode(), SHARD: shard_header(task)}
        if buried:
            head[BURIED] = "1"
        stream, subject, payload = _result_message(task)
        asked = task.reply and stream is RESULTS
        if await self.bus.write_once(subject, payload, head):
            if asked:
                await reply(self.bus, task.reply, item_result(task.items[0], task.job), subject)
            return counts
        if asked and (stored := await self.bus.last(stream, subject)) is not None:
            first = msgspec.json.decode(stored.data or b"", type=ShardResult).items[0]
            await reply(self.bus, task.reply, msgspec.structs.replace(first, job=task.job), subject)
        written = await self.bus.patiently(lambda: self.bus.js.get_last_msg(stream.name, subject))
        if not buried and BURIED in (written.headers or {}) and await self._take_back(task.group, task.index, written):
            if await replace(self.bus, written, payload, head):
                return counts
            written = await self.bus.patiently(lambda: self.bus.js.get_last_msg(stream.name, subject))
        return msgspec.json.decode((written.headers or {})[TALLY], type=Tally)

    async def _take_back(self, group: str, index: int, written: RawStreamMsg) -> bool:
        """Uncount a buried child; False where its group has all it waited for, so that it is too late for another."""
        if await self.parked(group) is None:
            return False
        counted = msgspec.json.decode((written.headers or {})[TALLY], type=Tally)
        return await self.groups.take_back(group, index, counted)

    async def _recount(self, group: str) -> Count:
        """Redis does not know the group: rebuild it from the stream, unless it has gone on already."""
        parked = await self.parked(group)
        return Count(0, 0) if parked is None else (await recount(self.bus, self.groups, group, parked)).count

    async def _set_alarm(self, group: str, parent: Task) -> None:
        """A scheduled message (server ≥ 2.12) wakes route at the deadline, and before it now and then to recount."""
        now = time.time()
        wait_s = max(self.check_s, now - parent.submitted_at) if parent.submitted_at else self.check_s
        when = max(now, min(parent.deadline or math.inf, now + wait_s))
        tenant, job = group.split("/")[:2]
        wake = Task(
            id=f"{group}/expire", tenant=tenant, job=job, pattern="", items=[], steps=[Expire(group)],
            group="", index=0,
        )  # fmt: skip
        await self.bus.publish(
            subjects.schedule(group),
            msgspec.msgpack.encode(wake),
            headers={SCHEDULE: at(when), SCHEDULE_TARGET: subjects.alarm(group)},
        )


def depth_of(group: str) -> int:
    """0 for the group of a job, 1 for that of a scatter inside it, …"""
    return group.count("/") // 2


async def reply(bus: Bus, subject: str, result: ItemResult, stored: str = "") -> None:
    """Answer an ask. Nobody may be listening any more: the result is stored all the same, at `stored`."""
    payload = msgspec.json.encode(result)
    if len(payload) + _HEADERS_MAX > bus.nc.max_payload:
        reason = f"the answer of {len(payload):,} bytes does not fit a message; it is stored at {stored}"
        result = ItemResult(n=result.n, id=result.id, failure=Failure("too_large", reason, "route"), job=result.job)
        payload = msgspec.json.encode(result)
    headers = {}
    if result.failure is not None:
        headers = {
            "Nats-Service-Error": result.failure.reason[:512].replace("\n", " "),
            "Nats-Service-Error-Code": _ERROR_CODES.get(result.failure.code, "422"),
        }
    await bus.nc.publish(subject, payload, headers=headers or None)


def shard_header(task: Task) -> str:
    """Group, index and item numbers: enough to fail the items of a task that cannot be read."""
    return f"{task.group} {task.index} {','.join(str(item.n) for item in task.items)}"


def task_from_header(header: str, failed: Item) -> Task | None:
    """The least that a task needs to arrive; None where the header is not ours."""
    try:
        group, index, numbers = header.split(" ")
        tenant, job = group.split("/")[:2]
        found = [msgspec.structs.replace(failed, n=int(n)) for n in numbers.split(",")]
        return Task(
            id=f"{group}/{index}",
            tenant=tenant,
            job=job,
            pattern="",
            items=found,
            steps=[],
            group=group,
            index=int(index),
        )
    except ValueError:
        return None


def _result_message(task: Task) -> tuple[subjects.Stream, str, bytes]:
    if task.group == subjects.job_group(task.tenant, task.job):
        return RESULTS, subjects.result(task.tenant, task.job, task.index), msgspec.json.encode(shard_result(task))
    arrival = Arrival(task.group, task.index, task.items, task.spent_s)
    return GROUPS, subjects.arrival(task.group, task.index), msgspec.msgpack.encode(arrival)


def _child(task: Task, group: str, index: int, child: Child) -> Task:
    return msgspec.structs.replace(
        task,
        id=f"{group}/{index}",
        group=group,
        index=index,
        items=list(child.items),
        steps=list(child.steps),
        hop=0,
        spent_s=0.0,
    )
