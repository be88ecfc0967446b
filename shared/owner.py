"""Whose a message is, and whose a key of Redis: what erases or exports a tenant goes by this."""

from collections.abc import Mapping

from contracts.subjects import MSG_ID, PARKED, SHARD

_SECOND = {"jobs", "ask", "asks", "results", "events", "documents", "tokens", "control", "feedback"}
_GROUPS = ("groups.", "schedules.", "alarms.", f"$KV.{PARKED.name}.")


def owner(subject: str, headers: Mapping[str, str]) -> str:
    """The tenant of a message: by its subject, else by the group in its headers; empty where nothing says it."""
    first, _, rest = subject.partition(".")
    if first in _SECOND:
        return rest.partition(".")[0]
    named = [subject.removeprefix(kind) for kind in _GROUPS if subject.startswith(kind)]
    named += [headers.get(SHARD, ""), headers.get(MSG_ID, "")]
    return next((group.partition("/")[0] for group in named if "/" in group), "")


def redis_patterns(tenant: str) -> list[str]:
    """Glob patterns of all keys of a tenant. A service that names a key of a new form adds it here."""
    return [
        *(f"{kind}:{{{tenant}/*" for kind in ("group", "paid", "attempts", "memory")),
        f"answers:{{{tenant}}}:*",
        *(f"{{limits}}:{form}" for form in (f"tenant:{tenant}", f"user:{tenant}/*", f"charged:{tenant}/*")),
    ]
