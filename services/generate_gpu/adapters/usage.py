"""Answers NATS requests on `limits.<tenant>`: what a tenant and its users have used of their limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from nats.micro.request import Request
from nats.micro.service import EndpointConfig
from nats.micro.service import Service as MicroService

from contracts.limits import LimitsQuery, LimitsUse, LimitUse, ScopeUse
from services.generate_gpu.adapters.limits import RedisLimiter, Seen, Used
from services.generate_gpu.domain.limits import NANO, resets_at
from shared.errors import Retryable
from shared.explain import Undecodable, explain
from shared.limits import Limits, Scope

SUBJECT = "limits.*"


@dataclass(frozen=True)
class UsageDesk:
    """The endpoint `limits` of the NATS service penstock-generate."""

    limits: Limits
    limiter: RedisLimiter

    async def announce(self, micro: MicroService) -> None:
        await micro.add_endpoint(
            EndpointConfig(
                name="limits",
                subject=SUBJECT,
                queue_group="limits",
                handler=self.handle,
                metadata={"takes": "LimitsQuery as JSON", "gives": "LimitsUse as JSON"},
            )
        )

    async def handle(self, request: Request) -> None:
        tenant = request.subject.split(".")[1]
        try:
            query = msgspec.json.decode(request.data or b"{}", type=LimitsQuery)
            found = await self.look(tenant, query.user)
        except Undecodable as error:
            found = LimitsUse(tenant, 0.0, error=explain(error, "limits"))
        except Retryable as error:
            found = LimitsUse(tenant, 0.0, error=str(error))
        await request.respond(msgspec.json.encode(found))

    async def look(self, tenant: str, user: str = "") -> LimitsUse:
        """What is used now; of one user, or of all that have used something. Raises Retryable."""
        users = [user] if user else sorted({*self.limits.users_of(tenant), *await self.limiter.users(tenant)})
        scopes = [*self.limits.of_tenant(tenant)]
        scopes += [scope for name in users for scope in self.limits.of_user(tenant, name)]
        scopes = [scope for scope in scopes if not scope.allowance.unlimited]
        seen = await self.limiter.look(scopes)
        return LimitsUse(tenant, seen.now, _views(scopes, seen))


def _views(scopes: Sequence[Scope], seen: Seen) -> list[ScopeUse]:
    return [
        ScopeUse(
            kind="tenant" if scope.kind == "tenant" else "user",
            name=scope.name.partition("/")[2] if scope.kind == "user" else scope.name,
            limits=_limits(scope, used, seen.now),
            waiting=used.interactive,
            waiting_batch=used.batch,
        )
        for scope, used in zip(scopes, seen.scopes, strict=True)
    ]


def _limits(scope: Scope, used: Used, now: float) -> list[LimitUse]:
    allowance, held = scope.allowance, used.held / NANO
    midnight = datetime.fromtimestamp(now, UTC)
    day, month = resets_at("usd_day", midnight).timestamp(), resets_at("usd_month", midnight).timestamp()
    found: list[LimitUse] = []
    if allowance.rpm is not None:
        found.append(LimitUse("rpm", allowance.rpm, used.requests))
    if allowance.tpm is not None:
        found.append(LimitUse("tpm", allowance.tpm, used.tokens))
    if allowance.rpd is not None:
        found.append(LimitUse("rpd", allowance.rpd, used.today, resets_at=day))
    if allowance.usd_day is not None:
        found.append(LimitUse("usd_day", allowance.usd_day, used.day / NANO, held, day))
    if allowance.usd_month is not None:
        found.append(LimitUse("usd_month", allowance.usd_month, used.month / NANO, held, month))
    return found
