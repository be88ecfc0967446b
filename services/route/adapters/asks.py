"""Answers NATS requests on `ask.<tenant>.<pattern>`: the ask becomes a job that carries where its answer is wanted.

Nobody waits here: the worker that finishes the job replies.
"""

from dataclasses import dataclass

import msgspec
from nats.micro.request import Request
from nats.micro.service import EndpointConfig
from nats.micro.service import Service as MicroService

from contracts import subjects
from contracts.item import Failure
from contracts.job import ItemResult, Job
from contracts.subjects import REPLY
from services.route.domain.submission import read_job
from shared.bus import Bus
from shared.errors import QueueFull, Rejected, Retryable
from shared.explain import Undecodable, explain
from shared.hops import reply
from shared.tracing import trace_headers

SUBJECT = "ask.*.*"


@dataclass(frozen=True)
class Asks:
    """The endpoint `ask` of the NATS service penstock-route."""

    bus: Bus

    async def announce(self, micro: MicroService) -> None:
        """Add the endpoint to the service, so that discovery shows it."""
        await micro.add_endpoint(
            EndpointConfig(
                name="ask",
                subject=SUBJECT,
                queue_group="ask",
                handler=self.handle,
                metadata={"takes": "Input as JSON", "gives": "ItemResult as JSON"},
            )
        )

    async def handle(self, request: Request) -> None:
        """Publish the job; only what is wrong with it is answered here."""
        message = request._msg  # nats-py's Request shows neither the reply subject nor a way to defer
        _, tenant, pattern = message.subject.split(".")
        try:
            payload = msgspec.json.encode(as_job(message.data))
            await self.bus.publish(
                subjects.asked(tenant, pattern), payload, headers={**trace_headers(), REPLY: message.reply}
            )
        except Rejected as error:
            await self._refuse(message.reply, Failure("malformed", str(error), "route"))
        except QueueFull as error:
            await self._refuse(message.reply, Failure("busy", str(error), "route"))
        except Retryable as error:
            await self._refuse(message.reply, Failure("upstream", str(error), "route"))

    async def _refuse(self, subject: str, failure: Failure) -> None:
        if subject:  # who published an ask like a job waits for no reply
            await reply(self.bus, subject, ItemResult(n=0, failure=failure))


def as_job(payload: bytes) -> Job:
    """What an ask carries: an Input, or a whole Job of one item. Raises Rejected."""
    job = read_job(payload) if _is_job(payload) else Job(items=[msgspec.Raw(payload)])
    if not job.items_claim and len(job.items) != 1:
        raise Rejected(f"items: an ask takes exactly one item, got {len(job.items)}; publish a job for more")
    return job


def _is_job(payload: bytes) -> bool:
    try:
        return not {"items", "items_claim"}.isdisjoint(msgspec.json.decode(payload, type=dict[str, msgspec.Raw]))
    except Undecodable as error:
        raise Rejected(f"{explain(error, 'ask')}; expected a JSON object with a question") from None
