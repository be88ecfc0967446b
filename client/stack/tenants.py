"""Tenants and their users: who may come in, changed while the stack runs.

A change is written into the configuration of NATS, which its servers then read anew: connections of all others go on,
and those with a password that does not hold any more are cut at once. Tenants never reach Redis or the engines.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from client.discovery import answers, connected
from client.errors import NotFound, StackError, UsageError
from client.stack.secrets import DEFAULT_TENANT, OPERATOR, SYSTEM, Secrets, member, new_password
from contracts.subjects import TOKEN

if TYPE_CHECKING:
    from nats.aio.client import Client

_RELOAD_S = 10.0
_SERVERS_S = 0.4  # how long the servers of a cluster may take to say that they are there


class Site(Protocol):
    """Where a stack's passwords and configuration lie, and where its NATS answers."""

    def known(self) -> Secrets:
        """The passwords as they are now."""

    def keep(self, known: Secrets) -> None:
        """Store the passwords, and the addresses that hold them."""

    def configure(self, known: Secrets, joining: Collection[str] = ()) -> None:
        """Write the configuration of NATS; `joining` as in `accounts_text`."""

    def url(self, user: str, password: str) -> str:
        """Where a user reaches NATS."""

    def answers(self) -> bool:
        """Whether NATS is there to be told of a change; else it holds from its next start."""


@dataclass(frozen=True)
class Access:
    """What a tenant's user needs to come in. `reloaded`: the running NATS knows it already."""

    tenant: str
    user: str
    url: str
    is_new: bool
    reloaded: bool


class Members(Struct, frozen=True):
    """A tenant and the names of its users; a removed one has none, and its data until it is erased."""

    tenant: str
    users: list[str]
    removed: bool = False


async def add(site: Site, tenant: str, user: str = "") -> Access:
    """Let a tenant in, or one more user of it. Whoever is there already keeps the password. Raises UsageError."""
    before = site.known()
    known = with_user(before, tenant, user)
    joining = [] if tenant in before.accounts else [tenant]
    reloaded = await _change(site, known, joining, [tenant])
    return _access(site, known, tenant, user, is_new=known != before, reloaded=reloaded)


async def rotate(site: Site, tenant: str, user: str = "") -> Access:
    """A new password; the one before stops at once, and so do connections that came in with it. Raises NotFound."""
    known = with_new_password(site.known(), tenant, user)
    return _access(site, known, tenant, user, is_new=False, reloaded=await _change(site, known))


async def remove(site: Site, tenant: str, user: str = "") -> bool:
    """Let a user out, or the tenant with all its users; its data stays. False: NATS will know at its next start.

    Raises NotFound, UsageError for the tenant that belongs to the stack.
    """
    return await _change(site, without(site.known(), tenant, user))


async def forget(site: Site, tenant: str) -> bool:
    """Take away the account of a removed tenant that has been erased."""
    known = site.known()
    return await _change(site, replace(known, removed=[name for name in known.removed if name != tenant]))


def listed(known: Secrets) -> list[Members]:
    active = [Members(tenant, list(known.members(tenant))) for tenant in known.tenants]
    return active + [Members(tenant, [], removed=True) for tenant in known.removed]


def with_user(known: Secrets, tenant: str, user: str) -> Secrets:
    """The passwords with this user among them. Another user than the first needs the tenant to be there."""
    if not user:
        return known.complete([], [tenant])
    if not TOKEN.match(user):
        raise UsageError(f"--user {user[:80]!r}: expected 1 to 64 letters, digits, - and _")
    _check(known, tenant, "")
    users = known.users.get(tenant, {})
    return replace(known, users=known.users | {tenant: {user: new_password()} | users})


def with_new_password(known: Secrets, tenant: str, user: str) -> Secrets:
    _check(known, tenant, user)
    if user:
        return replace(known, users=known.users | {tenant: known.users[tenant] | {user: new_password()}})
    return replace(known, tenants=known.tenants | {tenant: new_password()})


def without(known: Secrets, tenant: str, user: str) -> Secrets:
    _check(known, tenant, user)
    if user:
        left = {name: word for name, word in known.users[tenant].items() if name != user}
        return replace(known, users=known.users | {tenant: left})
    if tenant == DEFAULT_TENANT:
        raise UsageError(
            f"tenant {tenant}: it belongs to the stack; `penstock tenant rotate {tenant}` shuts others out"
        )
    return replace(
        known,
        tenants={name: word for name, word in known.tenants.items() if name != tenant},
        users={name: users for name, users in known.users.items() if name != tenant},
        removed=[*known.removed, tenant],
    )


def _check(known: Secrets, tenant: str, user: str) -> None:
    if tenant not in known.tenants:
        raise NotFound(f"tenant {tenant[:80]}: there is none of this name; see: penstock tenant list")
    if user and user not in known.users.get(tenant, {}):
        raise NotFound(f"tenant {tenant}: it has no user {user[:80]}; see: penstock tenant list")


def _access(site: Site, known: Secrets, tenant: str, user: str, *, is_new: bool, reloaded: bool) -> Access:
    name = member(tenant, user)
    return Access(tenant, name, site.url(name, known.members(tenant)[name]), is_new, reloaded)


async def _change(site: Site, known: Secrets, joining: Collection[str] = (), streams_of: Collection[str] = ()) -> bool:
    """Write and tell NATS. May be repeated after a crash at any point: what is stored last is what `known` reads."""
    if not site.answers():
        site.keep(known)
        site.configure(known)
        return False
    async with connected(site.url(SYSTEM, known.operators[SYSTEM])) as nc:
        if joining:
            site.configure(known, joining)
            await _reload(nc)
        site.keep(known)
        site.configure(known)
        await _reload(nc)
    if streams_of:
        from client.stack.provision import provision  # a third of a second that other commands need not wait

        async with connected(site.url(OPERATOR, known.operators[OPERATOR])) as nc:
            await provision(nc, streams_of)
    return True


class _Named(Struct):
    id: str
    name: str = ""


class _Server(Struct):
    server: _Named


class _Refusal(Struct):
    description: str = ""


class _Reloaded(Struct):
    error: _Refusal | None = None


async def _reload(nc: "Client") -> None:
    """Every server of the cluster reads its configuration anew, as after SIGHUP, and says what is wrong with it."""
    servers = await answers(nc, "$SYS.REQ.SERVER.PING", _Server, _SERVERS_S)
    if not servers:
        raise StackError("NATS: no server answers its system account; is this the stack's own?")
    for each in servers:
        reply = await nc.request(f"$SYS.REQ.SERVER.{each.server.id}.RELOAD", b"", timeout=_RELOAD_S)
        said = msgspec.json.decode(reply.data, type=_Reloaded)
        if said.error is not None:
            raise StackError(f"NATS {each.server.name}: does not take its configuration: {said.error.description}")
