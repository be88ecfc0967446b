"""Breakers in Redis: one script decides, so all replicas see the same; and their gauge for metrics."""

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.generate_gpu.domain.breaker import Open, Permit, Told
from shared.breakers import key, open_breakers
from shared.errors import Retryable
from shared.models import Model
from shared.telemetry import Telemetry

log = logging.getLogger("penstock.generate.breakers")

_SCRIPT = Path(__file__).with_name("breaker.lua").read_text(encoding="utf-8")
_CLOSED, _PROBE = 0, 1
_LOOK_EVERY_S = 5.0
_WHY = 200


class RedisBreakers:
    """Guards models behind an endpoint; what runs in this process is no other side that could be left alone."""

    def __init__(self, redis: "Redis") -> None:
        self._script = redis.register_script(_SCRIPT)

    def guards(self, model: Model) -> bool:
        return model.engine == "openai"

    async def ask(self, model: Model) -> Permit | Open:
        lease_s = model.breaker.slow_s + model.timeout.connect + 1  # then another may probe: the first one may be dead
        try:
            state, epoch, left, down, why = await self._script(keys=[key(model.name)], args=["ask", _ms(lease_s)])
        except RedisError as error:
            raise _retryable(error) from error
        if state in (_CLOSED, _PROBE):
            return Permit(int(epoch), probe=state == _PROBE)
        return Open(left / 1000, down / 1000, why.decode())

    async def away(self, model: Model) -> bool:
        try:
            state, *_ = await self._script(keys=[key(model.name)], args=["look"])
        except RedisError as error:
            raise _retryable(error) from error
        return bool(state != _CLOSED)

    async def tell(self, model: Model, permit: Permit, told: Told) -> Open | None:
        rules = model.breaker
        jitter = random.uniform(0.5, 1.0)  # several models of one provider are not probed all at once
        args: list[str | int | float] = [
            "tell", permit.epoch, told.outcome, int(told.judged), rules.failures, _ms(rules.open_s),
            _ms(rules.open_max_s), jitter, _ms(told.after or 0.0), told.why[:_WHY],
        ]  # fmt: skip
        try:
            state, _, left, down, why = await self._script(keys=[key(model.name)], args=args)
        except RedisError as error:
            log.warning("the breaker of %s is not told: %s", model.name, error)
            return None
        return None if state == _CLOSED else Open(left / 1000, down / 1000, why.decode())


async def watch(redis: "Redis", models: Sequence[str], telemetry: Telemetry) -> None:
    """Fill the gauge: 1 for each of these models that is left alone, else 0. Every replica says the same."""
    while True:
        try:
            away = {breaker.model for breaker in await open_breakers(redis)}
        except Retryable as error:
            log.info("breakers: %s", error)
        else:
            telemetry.breakers.update({model: int(model in away) for model in models})
        await asyncio.sleep(_LOOK_EVERY_S)


def _retryable(error: RedisError) -> Retryable:
    return Retryable(f"the breakers in Redis do not answer: {error}")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
