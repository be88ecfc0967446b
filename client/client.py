"""The Python client: submit jobs, ask questions, read results, reports and the audit log.

    async with await Penstock.connect("nats://127.0.0.1:4222") as penstock:
        result = await penstock.ask("Does plan HMO-483 cover physiotherapy after ACL surgery?")
        print(result.answer.text)

All errors are `shared.errors.PenstockError`s: JobRejected names what is wrong with a submission, Unreachable says that
nobody answers, Retryable that the stack cannot take it now, TimedOut that the answer is not there yet.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NoStreamResponseError, NotFoundError

from client.discovery import connected, tls_options
from client.errors import JobIdInUse, JobRejected, Unreachable
from client.follow import follow, stored
from client.submission import ItemLike, new_job_id, submission, token
from client.waiting import Waiting
from contracts import subjects
from contracts.events import Cancel, Hop
from contracts.item import Input
from contracts.job import ItemResult, JobOpened, JobReport, Lane, Options, ShardResult, TokenDelta
from contracts.limits import LimitsQuery, LimitsUse
from contracts.subjects import EVENTS, MSG_ID, RESULTS, TALLY
from contracts.task import Tally
from shared.addresses import servers, shown
from shared.bus import Bus, answered, headers_of
from shared.errors import Retryable

_REPLY_S = 5.0
_NO_STREAMS = "this NATS server has no Penstock on it, or is just starting; start one with: penstock up"


@dataclass(frozen=True)
class Receipt:
    """What a submission got: the job's id, its place in the stream JOBS, and whether it had been submitted before."""

    job: str
    sequence: int
    duplicate: bool = False


class Penstock:
    """A tenant's connection to a stack."""

    def __init__(self, nc: Client, tenant: str) -> None:
        self.nc = nc
        self.tenant = token("tenant", tenant)
        self.bus = Bus.on(nc)

    @classmethod
    async def connect(cls, nats_url: str, tenant: str = "default") -> Self:
        """Connect; comes back by itself when the connection is lost later. Raises Unreachable."""
        async with connected(nats_url):
            pass  # the first connection fails at once where nobody answers; the one that is kept would try for ever
        secure = await tls_options(nats_url)
        try:
            nc = await nats.connect(
                servers(nats_url), max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=_quiet, **secure
            )
        except (NatsError, OSError) as error:
            raise Unreachable(f"NATS at {shown(nats_url)}: {error}") from None
        return cls(nc, tenant)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.nc.close()

    async def submit(
        self,
        pattern: str,
        items: Sequence[ItemLike],
        options: Options | None = None,
        job: str = "",
        deadline_s: float | None = None,
        lane: Lane | None = None,
        user: str = "",
    ) -> Receipt:
        """Publish a job; returns when it is stored. Submitting the same id again changes nothing."""
        job = token("job", job) if job else new_job_id()
        draft = submission(items, job=job, options=options, deadline_s=deadline_s, lane=lane, user=user)
        payload = draft.payload(await self.upload(draft.lines) if draft.lines else "")
        return await self._publish(token("pattern", pattern), payload, job)

    async def _publish(self, pattern: str, payload: bytes, job: str) -> Receipt:
        headers = {MSG_ID: f"{self.tenant}.{job}"}  # message ids are shared by all tenants of the stream
        subject = subjects.jobs(self.tenant, pattern)
        try:
            ack = await self.bus.patiently(lambda: self.bus.js.publish(subject, payload, headers=headers))
        except Retryable as error:
            if isinstance(error.__cause__, NoStreamResponseError):
                raise Unreachable(_NO_STREAMS) from None
            raise
        except MaxPayloadError:
            raise JobRejected(f"the job's options are too large for a message ({len(payload):,} bytes)") from None
        return Receipt(job, ack.seq, bool(ack.duplicate))

    async def ask(
        self,
        question: str,
        pattern: str = "rag",
        session: str = "",
        on_delta: Callable[[TokenDelta], None] | None = None,
        options: Options | None = None,
        timeout_s: float = 120.0,
        job: str = "",
        user: str = "",
    ) -> ItemResult:
        """One question, and its answer or the failure in its place.

        `on_delta` sees the answer as it is made; a delta with a higher `attempt` than before means: start over.
        """
        job = token("job", job) if job else new_job_id()
        options = options or Options()
        if session:
            options = msgspec.structs.replace(options, session=session)
        places = [subjects.result(self.tenant, job, 0), subjects.result(self.tenant, job, "done")]
        async with self._listening(job, on_delta), Waiting(self.bus, places) as waiting:
            await self.submit(pattern, [Input(question=question)], options, job, lane="interactive", user=user)
            late = f"no answer within {timeout_s:g} s, the work goes on; see: penstock job {job}"
            return await waiting.first(_answer, timeout_s, late)

    @asynccontextmanager
    async def _listening(self, job: str, on_delta: Callable[[TokenDelta], None] | None) -> AsyncIterator[None]:
        """Show the tokens of a job as they come."""
        if on_delta is None:
            yield
            return
        tokens = await self.nc.subscribe(subjects.tokens(self.tenant, job, "*"), cb=_deltas(on_delta))
        try:
            yield
        finally:
            if not self.nc.is_closed:
                await tokens.unsubscribe()

    async def results(self, job: str | Receipt) -> AsyncGenerator[ShardResult, None]:
        """The results of a job's shards as they come, each once, in the order of arrival; ends with the job.

        Raises JobRejected.
        """
        places = [subjects.result(self.tenant, _id(job), "*"), *self._rejection(job)]
        async with aclosing(follow(self.bus.js, RESULTS, places)) as messages:
            async for message in messages:
                payload = await self.bus.payload(message.data, message.headers)
                if _is_shard(message.subject):
                    yield msgspec.json.decode(payload, type=ShardResult)
                elif message.subject.endswith(".open"):
                    _check_owner(job, payload)
                elif self._read_report(job, message.subject, payload):
                    return

    async def report(self, job: str | Receipt, timeout_s: float | None = None) -> JobReport:
        """Wait for a job's report. Raises JobRejected, and TimedOut while it is still at work."""
        if opened := await self.bus.last(RESULTS, subjects.result(self.tenant, _id(job), "open")):
            _check_owner(job, opened.data or b"")
        places = [subjects.result(self.tenant, _id(job), "done"), *self._rejection(job)]
        read = partial(self._read_report, job)
        async with Waiting(self.bus, places) as waiting:
            if report := await waiting.look(read):
                return report
            return await waiting.first(read, timeout_s, f"job {_id(job)}: no report within {timeout_s} s")

    async def find_report(self, job: str) -> JobReport | None:
        """The report of a job that has ended, whatever its state; None where it has not, or there is no such job."""
        message = await self.bus.last(RESULTS, subjects.result(self.tenant, token("job", job), "done"))
        return None if message is None else msgspec.json.decode(message.data or b"", type=JobReport)

    async def knows(self, job: str) -> bool:
        """Whether the stack has anything of this job: a report, a result or an audit record."""
        if await self.bus.last(EVENTS, subjects.events(self.tenant, token("job", job))):
            return True
        try:
            await answered(
                self.bus.js.get_msg(RESULTS.name, seq=1, subject=subjects.result(self.tenant, job, "*"), next=True)
            )
        except NotFoundError:
            return False
        return True

    async def tallies(self, job: str) -> AsyncGenerator[Tally, None]:
        """What each stored shard counts, without its results."""
        places = subjects.result(self.tenant, token("job", job), "*")
        async for message in stored(self.bus.js, RESULTS, places, headers_only=True):
            if tally := headers_of(message).get(TALLY):
                yield msgspec.json.decode(tally, type=Tally)

    async def stored_results(self, job: str) -> AsyncGenerator[ShardResult, None]:
        """The results that a job has up to now."""
        async for message in stored(self.bus.js, RESULTS, subjects.result(self.tenant, token("job", job), "*")):
            if _is_shard(message.subject):
                payload = await self.bus.payload(message.data, message.headers)
                yield msgspec.json.decode(payload, type=ShardResult)

    async def events(self, job: str) -> list[Hop]:
        """The audit log of a job up to now: one record a hop, in the order of writing."""
        subject = subjects.events(self.tenant, token("job", job))
        messages = stored(self.bus.js, EVENTS, subject)
        return [msgspec.json.decode(message.data, type=Hop) async for message in messages]

    async def cancel(self, job: str, reason: str = "") -> None:
        """Ask that a job be stopped; what is done stays done, the rest arrives as cancelled."""
        payload = msgspec.json.encode(Cancel(reason=reason))
        subject = subjects.cancel(self.tenant, token("job", job))
        await self.bus.patiently(lambda: self.bus.js.publish(subject, payload))

    async def limits(self, user: str = "") -> LimitsUse:
        """What the tenant and its users have used of their limits; beside the tenant of one user only, where one is
        named. Raises Retryable, Unreachable."""
        query = msgspec.json.encode(LimitsQuery(token("user", user) if user else ""))
        try:
            reply = await self.nc.request(subjects.limits(self.tenant), query, timeout=_REPLY_S)
        except (NoRespondersError, NatsTimeout):
            raise Unreachable("generate does not answer; see: penstock status") from None
        found = msgspec.json.decode(reply.data, type=LimitsUse)
        if found.error:
            raise Retryable(found.error)
        return found

    async def upload(self, data: bytes) -> str:
        """Store bytes for a document or a large job; returns the name to refer to them by."""
        return await self.bus.put_claim(data, self.tenant)

    def _rejection(self, job: str | Receipt) -> list[str]:
        """Where a rejection lies if the job's id is in use by another submission."""
        return [subjects.result(self.tenant, str(job.sequence), "done")] if isinstance(job, Receipt) else []

    def _read_report(self, job: str | Receipt, subject: str, payload: bytes) -> JobReport | None:
        """A report that ends the job; None for that of another job. Raises JobRejected."""
        own = subject == subjects.result(self.tenant, _id(job), "done")
        report = msgspec.json.decode(payload, type=JobReport)
        if report.state == "rejected":
            raise (JobRejected if own else JobIdInUse)(report.error or "the job was rejected")
        return report if own else None


def _check_owner(job: str | Receipt, opened: bytes) -> None:
    """Raises JobIdInUse where the job under this id is not the one that was submitted."""
    if isinstance(job, Receipt) and msgspec.json.decode(opened, type=JobOpened).sequence != job.sequence:
        raise JobIdInUse(f"job: the id {job.job!r} is in use by an earlier submission; choose another one")


def _is_shard(subject: str) -> bool:
    """Beside the shards stand the record of the opening and the report."""
    return subject.rpartition(".")[2].isdecimal()


def _deltas(on_delta: Callable[[TokenDelta], None]) -> Callable[[Msg], "asyncio.Future[None]"]:
    last = (0, 0)

    async def take(message: Msg) -> None:
        nonlocal last
        delta = msgspec.json.decode(message.data, type=TokenDelta)
        place = (delta.attempt, delta.index)
        if place > last:  # neither what an attempt says that was given up counts, nor what was said before
            last = place
            on_delta(delta)

    return take  # type: ignore[return-value]  # nats-py's type of a callback


def _answer(subject: str, payload: bytes) -> ItemResult | None:
    """The result of a job's only item, or the error of its rejection."""
    if subject.endswith(".done"):
        report = msgspec.json.decode(payload, type=JobReport)
        if report.state == "rejected":
            raise JobRejected(report.error or "the job was rejected")
        return None
    shard = msgspec.json.decode(payload, type=ShardResult)
    return msgspec.structs.replace(shard.items[0], job=shard.job)


def _id(job: str | Receipt) -> str:
    return job.job if isinstance(job, Receipt) else token("job", job)


async def _quiet(_: Exception) -> None:
    """nats-py says on stderr what it also raises."""
