"""Answers that were given before, kept in Redis by tenant: judge keeps them, retrieve finds them again.

Three keys a tenant, `answers:{<tenant>}:kept`, `:questions` and `:order`; whoever erases a tenant deletes these three.
There are at most so many answers of a tenant, of at most so many bytes, and none stays longer than a week, so what they
take of Redis is bounded. They are a convenience: where Redis does not answer, nothing was kept and nothing is found.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.item import Answer, Keep, Verdict

log = logging.getLogger("penstock.answers")

MOST = 1000  # answers of a tenant
MOST_BYTES = 32 * 1024  # of one
KEPT_S = 7 * 24 * 3600

_KEEP = (Path(__file__).parent / "answers.lua").read_text(encoding="utf-8")


class Kept(Struct, frozen=True, omit_defaults=True):
    """An answer with what it rests on."""

    question: str
    answer: Answer
    under: Keep
    at: float  # unix seconds
    verdict: Verdict | None = None


class Asked(Struct, frozen=True):
    """An earlier question, to be found by likeness."""

    question: str
    scope: str
    vector: bytes  # float16


@dataclass(frozen=True)
class News:
    """Questions by the keys of their answers, the moment to go on from, and how many answers there are in all."""

    asked: Mapping[str, Asked]
    until: float
    size: int


class Answers(Protocol):
    """What was kept, by tenant. No method sees several tenants, and none fails: what cannot be had is not there."""

    async def find(self, tenant: str, keys: Sequence[str]) -> list[Kept | None]:
        """The answers under these keys, each None where there is none."""

    async def keep(self, tenant: str, kept: Sequence[Kept]) -> None:
        """Keep answers; the same key again replaces what was there."""

    async def asked(self, tenant: str, since: float) -> News:
        """What was asked since a moment; begin with 0."""


@dataclass(frozen=True)
class RedisAnswers:
    """The answers in Redis."""

    redis: "Redis"
    most: int = MOST
    kept_s: int = KEPT_S

    async def find(self, tenant: str, keys: Sequence[str]) -> list[Kept | None]:
        answers, _, _ = _keys(tenant)
        try:
            found: Sequence[Any] = await self.redis.hmget(answers, list(keys)) if keys else []
        except RedisError as error:
            log.info("kept answers cannot be looked up: %s", error)
            return [None] * len(keys)
        return [_decoded(raw) for raw in found]

    async def keep(self, tenant: str, kept: Sequence[Kept]) -> None:
        if not kept:
            return
        keys = _keys(tenant)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                for one in kept:
                    payload, asked = _encoded(one)
                    if len(payload) <= MOST_BYTES:
                        pipe.eval(_KEEP, len(keys), *keys, one.under.key, payload, asked, self.most, self.kept_s)
                await pipe.execute()
        except RedisError as error:
            log.info("answers cannot be kept: %s", error)

    async def asked(self, tenant: str, since: float) -> News:
        _, questions, order = _keys(tenant)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.zrangebyscore(order, f"({since:.0f}", "+inf", withscores=True)
                pipe.zcard(order)
                new, size = await pipe.execute()
            found: Sequence[Any] = await self.redis.hmget(questions, [key for key, _ in new]) if new else []
        except RedisError as error:
            log.info("earlier questions cannot be read: %s", error)
            return News({}, since, 0)
        asked = {
            key.decode(): msgspec.msgpack.decode(raw, type=Asked)
            for (key, _), raw in zip(new, found, strict=True)
            if raw
        }
        return News(asked, new[-1][1] if new else since, size)


def _encoded(kept: Kept) -> tuple[bytes, bytes]:
    """The answer, and the question where it is to be found by likeness."""
    under = kept.under
    asked = msgspec.msgpack.encode(Asked(kept.question, under.scope, under.vector)) if under.vector else b""
    lean = msgspec.structs.replace(kept, under=msgspec.structs.replace(under, vector=b""))
    return msgspec.msgpack.encode(lean), asked


def _keys(tenant: str) -> tuple[str, str, str]:
    base = f"answers:{{{tenant}}}"  # the braces keep the keys on one node of a cluster
    return f"{base}:kept", f"{base}:questions", f"{base}:order"


def _decoded(raw: bytes | None) -> Kept | None:
    try:
        return None if raw is None else msgspec.msgpack.decode(raw, type=Kept)
    except msgspec.MsgspecError as error:
        log.info("a kept answer cannot be read and is left alone: %s", error)  # of an older version
        return None
