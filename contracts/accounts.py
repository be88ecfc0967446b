"""Tenants and services in accounts of the NATS server: names that both sides of a border must know.

Services share one account. Each tenant has its own, whose streams RESULTS and EVENTS are copies of what the services
wrote for that tenant, and whose bucket `claims` holds its uploads.
"""

from dataclasses import replace

from contracts.subjects import CONTROL, EVENTS, JOBS, RESULTS, Stream, asked, jobs

SERVICES = "SERVICES"
LIVE = "live"
"""In a tenant's account, what is written for it also comes on `live.<subject>` while it is written."""

COPIES = (RESULTS, EVENTS)
"""What the services' account holds of all tenants, and a tenant's account of its own."""


def account(tenant: str) -> str:
    return f"TENANT_{tenant}"


def queue(tenant: str) -> Stream:
    """A tenant's submissions: a stream of its own, so that its message ids and its full queue are its own too."""
    return replace(JOBS, name=f"JOBS_{tenant}", subjects=(jobs(tenant, "*"), asked(tenant, "*")))


def control(tenant: str) -> Stream:
    """What a tenant says about its jobs: a stream of its own, and a small one. What is old is dropped from it."""
    return replace(
        CONTROL,
        name=f"{CONTROL.name}_{tenant}",
        subjects=(f"control.{tenant}.>", f"feedback.{tenant}.>"),
        max_bytes=64 << 20,
    )


def copy(stream: Stream, tenant: str) -> Stream:
    """The tenant's copy. What was taken back and written again in RESULTS counts with its last message."""
    kind = stream.name.lower()
    subject = stream.subjects[0].replace(f"{kind}.*", f"{kind}.{tenant}", 1)
    return replace(stream, subjects=(subject,), owner="services", per_subject=1 if stream is RESULTS else -1)


def copier(tenant: str) -> str:
    """The consumer of RESULTS and EVENTS that feeds a tenant's copy, and what its messages go by: `copies.<tenant>`."""
    return f"copy-{tenant}"


def delivered(stream: Stream, tenant: str) -> str:
    """Where the messages of a tenant's copy cross the border."""
    return f"copies.{tenant}.{stream.name}"


def api(tenant: str) -> str:
    """What stands for $JS.API of a tenant's account in the services' account."""
    return f"tenants.{tenant}.API"
