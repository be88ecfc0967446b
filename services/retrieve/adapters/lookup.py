"""Answers that were given before: found for items before passages are, and checked against the library of today.

An answer stands as long as the tenant's library is the version in which it was made. Where the library has changed it
stands if the same passages are found as then: no document that it rests on has changed, and no new one came among them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec.structs import replace

from contracts import subjects
from contracts.item import Cached, Item, Keep
from contracts.job import TokenDelta
from contracts.steps import Generate, Retrieve
from contracts.task import Task
from services.retrieve.adapters.memory import QuestionVectors, RememberingFinder
from services.retrieve.adapters.near import Near, Neighbour
from services.retrieve.domain.guard import told_apart
from services.retrieve.domain.keys import found_of, key_of, scope_of
from services.retrieve.domain.policy import Mode
from services.retrieve.domain.ports import Look, Note, unnoted
from shared.answers import Answers, Kept
from shared.attempts import Attempts
from shared.encoder import Floats
from shared.errors import Retryable
from shared.turns import TURNS

log = logging.getLogger("penstock.retrieve.lookup")


class Tokens(Protocol):
    """Sends a payload to a subject without waiting for readers."""

    async def publish(self, subject: str, payload: bytes) -> None: ...


@dataclass(frozen=True)
class Lookup:
    """Finds kept answers for the items of a task."""

    answers: Answers
    near: Near
    finder: RememberingFinder
    questions: QuestionVectors
    tokens: Tokens
    attempts: Attempts
    ttl_s: float
    threshold: float
    note: Note = unnoted
    clock: Callable[[], float] = time.time

    async def look(self, task: Task, step: Retrieve, mode: Mode) -> list[Look]:
        """For each item: its answer where one stands, else under what its answer may be kept."""
        version = await self.finder.version(task.tenant)
        scopes = [scope_of(step.cache, item.input) for item in task.items]
        keys = [key_of(scope, item.question) for scope, item in zip(scopes, task.items, strict=True)]
        kept = [self._fresh(one) for one in await self.answers.find(task.tenant, keys)]
        looks = []
        for item, key, scope, old in zip(task.items, keys, scopes, kept, strict=True):
            if old is not None and old.under.version == version:
                looks.append(Look(await self._answered(task, item, old, "exact")))
                continue
            under = Keep(key, scope, version, step.cache.rpartition(":")[0])
            if mode == "semantic":
                looks.append(await self._like(task, item, under, old))
            else:
                looks.append(Look(replace(item, keep=under), old))
            await TURNS.give_way(task.lane)
        return looks

    async def settle(self, task: Task, looks: Sequence[Look], items: Sequence[Item]) -> list[Item]:
        """The items with the passages that were found: an old answer stands where they are the same as then.

        Nothing is kept where the library has changed since it was looked at: which version was searched is not known.
        """
        version = await self.finder.version(task.tenant)
        done = []
        for look, item in zip(looks, items, strict=True):
            if item.keep is None or not item.at_work:
                done.append(item)
                continue
            under = replace(item.keep, found=found_of(item.passages))
            is_current = under.version == version
            if look.old is not None and look.old.under.found == under.found:
                if is_current:
                    await self.answers.keep(task.tenant, [msgspec.structs.replace(look.old, under=under)])
                done.append(await self._answered(task, item, look.old, "checked"))
            else:
                self.note("answer", "miss" if look.old is None else "changed")
                done.append(replace(item, keep=under if is_current else None))
        return done

    async def _like(self, task: Task, item: Item, under: Keep, old: Kept | None) -> Look:
        vectors = await asyncio.to_thread(self.questions.encode, task.tenant, item.question)
        found = await self._neighbour(task.tenant, item.question, under, vectors.vector)
        if found is None:
            return Look(replace(item, keep=replace(under, vector=vectors.vector.astype("<f2").tobytes())), old)
        kept, neighbour = found
        return Look(await self._answered(task, item, kept, "semantic", neighbour))

    async def _neighbour(
        self, tenant: str, question: str, under: Keep, vector: Floats
    ) -> tuple[Kept, Neighbour] | None:
        """The answer of the nearest earlier question that asks the same, as the library is now."""
        for neighbour in await self.near.nearest(tenant, under.scope, vector, self.threshold):
            if told_apart(question, neighbour.question):
                self.note("answer", "guarded")
                continue
            [kept] = await self.answers.find(tenant, [neighbour.key])
            if kept is None:
                self.near.forget(tenant, neighbour.key)
            elif self._fresh(kept) is not None and kept.under.version == under.version:
                return kept, neighbour
        return None

    def _fresh(self, kept: Kept | None) -> Kept | None:
        return kept if kept is not None and self.clock() - kept.at < self.ttl_s else None

    async def _answered(
        self, task: Task, item: Item, kept: Kept, result: str, neighbour: Neighbour | None = None
    ) -> Item:
        self.note("answer", result)
        age = round(max(0.0, self.clock() - kept.at), 3)
        cached = (
            Cached("exact", age)
            if neighbour is None
            else Cached("semantic", age, round(neighbour.similarity, 4), neighbour.question)
        )
        if any(isinstance(step, Generate) and step.stream for step in task.steps):
            await self._stream(task, item, kept)
        answer = replace(kept.answer, cached=cached)
        return replace(item, answer=answer, verdict=kept.verdict, passages=[], keep=None)

    async def _stream(self, task: Task, item: Item, kept: Kept) -> None:
        """All of it in one piece, as an attempt of its own: the task may come again, and then another answer stand, or
        none, so that a model makes one."""
        subject = subjects.tokens(task.tenant, task.job, item.n)
        try:
            attempt = await self.attempts.begin(task.id, item.n)
        except Retryable as error:
            log.info("a kept answer is not streamed on %s: %s", subject, error)  # the result has it all the same
            return
        whole = TokenDelta(0, kept.answer.text, attempt)
        for delta in (whole, TokenDelta(1, "", attempt, kept.answer.finish_reason)):
            await self.tokens.publish(subject, msgspec.json.encode(delta))
