"""Publishes the shards of a job: all at once where they lie in its message, else a window of them at a time.

A window is published, then the cursor is moved, then Redis learns the next mark. Each may be repeated after a crash: a
shard that is published twice is the same shard, and only the mark that the cursor names moves it on.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from contracts.item import Failure
from contracts.steps import Open
from contracts.task import Cursor, Parked, Task
from services.route.adapters.lines import Lines, Place
from services.route.config import RouteSettings
from services.route.domain.patterns import Patterns
from services.route.domain.submission import Opening, RawItem
from shared.errors import PenstockError, Poison
from shared.gather import lost_child
from shared.hops import Hops, depth_of
from shared.outcome import Finished, Outcome
from shared.recount import window_key
from shared.tracing import trace_headers
from shared.uploads import Uploads

log = logging.getLogger("penstock.open")

_AT_ONCE = 16  # shards that are decoded and published together: what a window takes of memory


@dataclass(frozen=True)
class Windows:
    """Opens jobs and goes on opening them."""

    hops: Hops
    patterns: Patterns
    settings: RouteSettings

    async def whole(self, opening: Opening, raw: Sequence[RawItem]) -> int:
        """Publish all shards of a job whose items are at hand; returns how many items are malformed."""
        out = await self.hops.open_group(opening.group, opening.parked)
        size = opening.parked.shard_size
        tasks = [opening.shard(index, raw[index * size :][:size]) for index in range(opening.parked.size)]
        await self.hops.add(opening.group, tasks[out:], trace_headers())
        return sum(not item.alive for task in tasks for item in task.items)

    async def only(self, opening: Opening, raw: Sequence[RawItem], begin: Callable[[Task], Awaitable[None]]) -> int:
        """Have `begin` take the one shard of a job; returns how many items are malformed. Where `begin` cannot, the
        shard is published like any other, and a worker's rules say what becomes of it."""
        await self.hops.open_group(opening.group, opening.parked)
        task = opening.shard(0, raw)
        if not await self._begun(task, begin):
            await self.hops.add(opening.group, [task], trace_headers())
        return sum(not item.alive for item in task.items)

    async def _begun(self, task: Task, begin: Callable[[Task], Awaitable[None]]) -> bool:
        try:
            async with self.hops.room.places(task.lane, depth_of(task.group), 1):
                await begin(task)
        except PenstockError as error:
            log.info("%s is published, as its first step cannot be taken at once: %s", task.id, error)
            return False
        except Exception:  # a fault of ours: a worker settles it, with its attempts and its dead letters
            log.exception("%s is published, as its first step failed while its job was opened", task.id)
            return False
        return True

    async def first(self, opening: Opening, claim: str) -> int:
        """Publish the first window of a job whose items lie in the object store; returns how many of it are
        malformed."""
        await self.hops.open_group(opening.group, opening.parked)
        if (cursor := await self.hops.cursor(opening.group)) is not None:  # this delivery is a late repetition
            await self._mark(opening.parked, cursor)
            return 0
        if await self.hops.bus.gone_on(window_key(opening.group)):  # it is so late that all of the job is out
            return 0
        return await self._window(opening, Cursor(claim, 0, 0))

    async def go_on(self, task: Task, step: Open) -> Outcome:
        """Publish the next window, where the cursor still stands at this mark."""
        parked, cursor = await self.hops.parked(step.group), await self.hops.cursor(step.group)
        if parked is None or cursor is None:
            return Finished()
        if cursor.mark != step.mark:
            await self._mark(parked, cursor)
            return Finished()
        parent = parked.task
        pattern = self.patterns.get(parent.pattern)
        opening = Opening(parked, pattern, pattern.open(parent.options))
        try:
            await self._window(opening, cursor)
        except Poison as error:
            await self._give_up(parked, cursor, Failure("internal", str(error), "route"))
        return Finished()

    async def _window(self, opening: Opening, cursor: Cursor) -> int:
        parked = opening.parked
        lines = await Lines.open(
            Uploads(self.hops.bus, parked.task.tenant),
            cursor.claim,
            Place(cursor.sequence, cursor.offset, cursor.passed),
        )
        out = await self.hops.groups.published(opening.group)
        end = min(parked.size, cursor.shard + self.settings.window_shards)
        malformed = 0
        for start in range(cursor.shard, end, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, end))
            tasks = [opening.shard(index, await lines.take(parked.shard_size)) for index in some]
            malformed += sum(not item.alive for task in tasks for item in task.items)
            await self.hops.add(opening.group, [task for task in tasks if task.index >= out], trace_headers())
        if end < parked.size:
            place, mark = lines.place, end - self.settings.window_shards // 2
            moved = Cursor(cursor.claim, end, mark, place.sequence, place.offset, place.passed)
            await self.hops.move_cursor(opening.group, moved)
            await self._mark(parked, moved)
        else:
            await self.hops.move_cursor(opening.group, None)
        return malformed

    async def _mark(self, parked: Parked, cursor: Cursor) -> None:
        """Let arrivals wake us at the mark, or go on at once where so many have come already."""
        group = parked.task.group
        count = await self.hops.groups.open(group, parked.size, cursor.mark)
        if count.mark:
            await self.hops.forward_open(parked.task, count.mark, trace_headers())

    async def _give_up(self, parked: Parked, cursor: Cursor, failure: Failure) -> None:
        """The rest of the items is gone: its shards arrive as failed."""
        group = parked.task.group
        for start in range(cursor.shard, parked.size, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, parked.size))
            lost = [lost_child(parked, group, index, failure) for index in some]
            await self.hops.publish_all(lost, trace_headers())
        await self.hops.move_cursor(group, None)
