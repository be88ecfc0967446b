"""All places of a tenant on a stack, and their erasure."""

import asyncio
import time

import msgspec
from msgspec import Struct, field
from nats.aio.client import Client
from redis.asyncio import Redis

from client.discovery import PREFIX, Pong, discover
from client.tenant_data.places import Documents, Groups, Index, Objects, Owned, Place, RedisKeys, Subjects
from client.tenant_data.streams import API, StreamOf
from contracts import accounts, subjects
from contracts.events import Cancel
from contracts.subjects import (
    ALARMS,
    CLAIMS,
    CONTROL,
    DEAD,
    DOCUMENTS,
    EVENTS,
    GROUPS,
    JOBS,
    LIBRARY,
    PARKED,
    RESULTS,
    TENANT,
    WORK,
    Bucket,
)  # fmt: skip
from shared.bus import Bus
from shared.streams import backing

_SETTLE_S = 20.0  # how long what services hold at the moment may take to end once it is cancelled
_PAUSE_S = 1.0
_QUIET_ROUNDS = 2
_ROUNDS = 30


class Removed(Struct, frozen=True):
    """What was taken out of a place; `note` where something is to be known of it."""

    place: str
    count: int
    note: str = ""


class Erasure(Struct, frozen=True):
    """The report of an erasure. `complete`: nothing of the tenant was left in the end."""

    tenant: str
    complete: bool
    jobs_cancelled: int
    removed: list[Removed] = field(default_factory=list)


async def places(bus: Bus, redis: "Redis", tenant: str) -> list[Place]:
    """All places, in the order in which they are emptied: work first, so that it makes nothing new."""
    nc = bus.nc
    with_accounts = accounts.queue(tenant).name in await bus.queues()
    queue, control = (
        (accounts.queue(tenant).name, accounts.control(tenant).name) if with_accounts else (JOBS.name, CONTROL.name)
    )
    pongs = await discover(nc, "PING", Pong)
    retrieves = sum(pong.name == f"{PREFIX}retrieve" for pong in pongs)

    def of(stream: subjects.Stream) -> StreamOf:
        return StreamOf(nc, stream.name)

    found: list[Place] = [
        Subjects("submissions", bus, StreamOf(nc, queue), [f"jobs.{tenant}.*", f"asks.{tenant}.*"]),
        Owned("tasks", bus, of(WORK), tenant),
        Groups("alarms", bus, of(ALARMS), ["schedules.>", "alarms.>"], tenant),
        Groups("waiting groups", bus, StreamOf(nc, backing(PARKED)), [f"$KV.{PARKED.name}.>"], tenant),
        Groups("results inside jobs", bus, of(GROUPS), ["groups.>"], tenant),
        Owned("dead letters", bus, of(DEAD), tenant),
        Subjects("results", bus, of(RESULTS), [f"results.{tenant}.>"]),
        Subjects("records", bus, of(EVENTS), [f"events.{tenant}.*"]),
        Subjects("control", bus, StreamOf(nc, control), [f"control.{tenant}.>", f"feedback.{tenant}.>"]),
        Documents("documents", bus, of(DOCUMENTS), [f"documents.{tenant}.*"], tenant),
        Index("index", bus, tenant, retrieves),
        Objects("large documents", *_bucket(nc, LIBRARY), lambda stored: stored.name.startswith(f"{tenant}.")),
        Objects("large payloads", *_bucket(nc, CLAIMS), lambda stored: stored.headers.get(TENANT) == [tenant]),
        RedisKeys("Redis keys", redis, tenant),
    ]
    return found + (_of_account(bus, tenant) if with_accounts else [])


def _of_account(bus: Bus, tenant: str) -> list[Place]:
    """The tenant's own account: copies of results and records, and the files that it uploaded."""
    api = accounts.api(tenant)
    copies: list[Place] = [
        Subjects(f"copies of {name}", bus, StreamOf(bus.nc, stream.name, api), [">"])
        for name, stream in (("results", RESULTS), ("records", EVENTS))
    ]
    return [*copies, Objects("uploads", *_bucket(bus.nc, CLAIMS, api), lambda stored: True)]


def _bucket(nc: Client, bucket: Bucket, api: str = API) -> tuple[StreamOf, str]:
    return StreamOf(nc, backing(bucket), api), bucket.name


async def erase(bus: Bus, redis: "Redis", tenant: str) -> Erasure:
    """Cancel the tenant's jobs, then empty every place until nothing new comes any more."""
    where = await places(bus, redis, tenant)
    cancelled = await _cancel_jobs(bus, tenant)
    await _settle(bus, tenant)
    counts = dict.fromkeys([place.name for place in where], 0)
    quiet = 0
    for _ in range(_ROUNDS):
        found = {place.name: await place.erase() for place in where}
        counts = {name: count + found[name] for name, count in counts.items()}
        quiet = 0 if any(found.values()) else quiet + 1
        if quiet == _QUIET_ROUNDS:
            break
        await asyncio.sleep(_PAUSE_S)
    notes = {place.name: _note(place) for place in where if isinstance(place, Index)}
    removed = [Removed(name, count, notes.get(name, "")) for name, count in counts.items()]
    return Erasure(tenant, quiet == _QUIET_ROUNDS and not any(notes.values()), cancelled, removed)


def _note(index: Index) -> str:
    """What is not well about the index; empty where every replica has nothing left."""
    left = index.left or {}
    if len(left) < max(index.replicas, 1):
        missing = max(index.replicas, 1) - len(left)
        return f"{missing} of retrieve did not answer; they follow the log of documents when they are there again"
    remaining = {replica: count for replica, count in left.items() if count}
    return f"documents left: {remaining}; erase again" if remaining else ""


async def _cancel_jobs(bus: Bus, tenant: str) -> int:
    """Cancel every job that has been opened and has no report; returns how many."""
    found = await StreamOf(bus.nc, RESULTS.name).subjects(f"results.{tenant}.>")
    ended = {subject.split(".")[2] for subject in found if subject.endswith(".done")}
    opened = {subject.split(".")[2] for subject in found if subject.endswith(".open")} - ended
    payload = msgspec.json.encode(Cancel(reason="the tenant is erased"))
    for job in opened:
        await bus.publish(subjects.cancel(tenant, job), payload)
    return len(opened)


async def _settle(bus: Bus, tenant: str) -> None:
    """Let services give up what they hold: what they finish later would be written after the erasure."""
    tasks = Owned("tasks", bus, StreamOf(bus.nc, WORK.name), tenant)
    until = time.monotonic() + _SETTLE_S
    while time.monotonic() < until:
        if not [record async for record in tasks.records()]:
            return
        await asyncio.sleep(_PAUSE_S)
