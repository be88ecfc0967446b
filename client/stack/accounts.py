"""Accounts, users and permissions of the NATS server, as text of its configuration file. Pure: compose uses it too.

Services share the account SERVICES; each tenant has an account of its own. What may cross the border between them
stands here and nowhere else; docs/decisions says why it is cut this way.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from client.stack.secrets import OPERATOR, SYSTEM, Secrets, service_user
from contracts.accounts import COPIES, LIVE, SERVICES, account, api, copier, delivered
from contracts.subjects import CLAIMS

ASK_ANSWERED = "24h"  # how long the server keeps the way back to whoever asked
_LIMITS = "{{max_file: {megabytes:.0f}MB, max_memory: 64MB}}"
UPLOADS = f"OBJ_{CLAIMS.name}"

_JETSTREAM = (
    "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.MSG.>",
    "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>", "$JS.ACK.>", "$JS.FC.>",
)  # fmt: skip
_PUBLISHED = (
    *_JETSTREAM, "work.>", "results.>", "groups.>", "events.>", "dead.>", "schedules.>", "$KV.>",
    f"$O.{CLAIMS.name}.>", "_INBOX.>", "_R_.>", "$SRV.>",
)  # fmt: skip
"""What every service does: takes tasks, passes them on, lets them arrive, buries them, answers who asked."""

_UPLOADS = tuple(
    f"{api('*')}.{call}.{UPLOADS}{rest}"
    for call, rest in (("STREAM.INFO", ""), ("STREAM.MSG.GET", ""), ("DIRECT.GET", ""), ("DIRECT.GET", ".>"))
)
_PUBLISHED_BY = {
    "ingest": ("documents.>", "$O.library.>", *_UPLOADS),
    "route": ("asks.*.*", "warm.*", f"{api('*')}.STREAM.PURGE.RESULTS", *_UPLOADS),
    "generate": ("tokens.>", "$KV.replicas.*"),
    "retrieve": ("tokens.>",),
}
_SUBSCRIBED = ("_INBOX.>", "$SRV.>", "$KV.>")
_SUBSCRIBED_BY = {
    "route": ("ask.*.*", "forget.*", "$KV.replicas.*"),
    "generate": ("warm.*", "limits.*"),
    "retrieve": ("reindex.*", "forget.*"),
}

_READ = ("RESULTS", "EVENTS", UPLOADS)
_CALLS = (
    "STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.INFO",
    "CONSUMER.LIST", "CONSUMER.NAMES", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT",
)  # fmt: skip


@dataclass(frozen=True)
class User:
    """A user and what it may do; empty: everything in its account."""

    name: str
    password: str
    publish: Sequence[str] = ()
    subscribe: Sequence[str] = ()


def accounts_text(secrets: Secrets, joining: Collection[str] = ()) -> str:
    """The blocks `accounts` and `system_account`.

    Tenants who are `joining` have a bare account: a server that is told of an account and of its imports in one reload
    leaves the imports deaf (2.15.1), so it is told of them one after the other.
    """
    tenants = [tenant for tenant in secrets.accounts if tenant not in joining]
    limits = _LIMITS.format(megabytes=secrets.tenant_gb * 1024)
    blocks = [_services(secrets, tenants), *(_tenant(tenant, secrets.members(tenant), limits) for tenant in tenants)]
    blocks += [_account(account(tenant), limits, [], [], []) for tenant in joining]
    system = f"  SYS {{\n    users: [\n{_user(User(SYSTEM, secrets.operators[SYSTEM]))}\n    ]\n  }}"
    return "accounts {\n" + "\n".join([*blocks, system]) + "\n}\nsystem_account: SYS\n"


def tenant_user(name: str, password: str, tenant: str) -> User:
    """May submit, ask, control and give feedback, read its tenant's streams, and upload."""
    return User(
        name,
        password,
        publish=(
            f"jobs.{tenant}.>", f"ask.{tenant}.>", f"limits.{tenant}", f"control.{tenant}.>", f"feedback.{tenant}.>",
            "$SRV.PING", "$SRV.INFO", "$JS.API.INFO", "$JS.API.STREAM.NAMES",
            *(f"$JS.API.{call}.{stream}{rest}" for stream in _READ for call in _CALLS for rest in ("", ".>")),
            *(f"$JS.ACK.{stream}.>" for stream in _READ),
            *(f"$JS.FC.{stream}.>" for stream in _READ),
            f"$O.{CLAIMS.name}.>", f"$JS.API.STREAM.PURGE.{UPLOADS}",
        ),
        subscribe=("_INBOX.>", f"tokens.{tenant}.>", f"{LIVE}.>", f"results.{tenant}.>", f"events.{tenant}.>"),
    )  # fmt: skip


def service_permissions(service: str, password: str) -> User:
    """What a service publishes and hears; streams are made by the operator."""
    return User(
        service_user(service),
        password,
        publish=(*_PUBLISHED, *_PUBLISHED_BY.get(service, ())),
        subscribe=(*_SUBSCRIBED, *_SUBSCRIBED_BY.get(service, ())),
    )


def _services(secrets: Secrets, tenants: Sequence[str]) -> str:
    users = [User(OPERATOR, secrets.operators[OPERATOR])]
    users += [service_permissions(name, password) for name, password in secrets.services.items()]
    exports = [line for tenant in tenants for line in _given(tenant)]
    imports = [_service(account(tenant), "$JS.API.>", to=f"{api(tenant)}.>") for tenant in tenants]
    return _account(SERVICES, "enabled", users, exports, imports)


def _given(tenant: str) -> list[str]:
    """What the services' account gives to one tenant's account."""
    only = f"accounts: [{_quoted(account(tenant))}]"
    services = [f"jobs.{tenant}.*", f"limits.{tenant}", f"control.{tenant}.>", f"feedback.{tenant}.>"]
    for stream in COPIES:
        services += [
            f"$JS.API.CONSUMER.RESET.{stream.name}.{copier(tenant)}",
            f"$JS.FC.{stream.name}.{copier(tenant)}.>",
        ]
    streams = [f"{kind}.{tenant}.>" for kind in ("tokens", "results", "events")]
    streams += [delivered(stream, tenant) for stream in COPIES]
    return [
        *(f"{{service: {_quoted(subject)}, {only}}}" for subject in services),
        f"{{service: {_quoted(f'ask.{tenant}.*')}, threshold: {_quoted(ASK_ANSWERED)}, {only}}}",
        *(f"{{stream: {_quoted(subject)}, {only}}}" for subject in streams),
        *(f"{{service: {_quoted(subject)}, response: stream, {only}}}" for subject in ("$SRV.PING", "$SRV.INFO")),
    ]


def _tenant(tenant: str, members: Mapping[str, str], limits: str) -> str:
    taken = [f"jobs.{tenant}.*", f"limits.{tenant}", f"ask.{tenant}.*", f"control.{tenant}.>", f"feedback.{tenant}.>"]
    imports = [_service(SERVICES, subject) for subject in (*taken, "$SRV.PING", "$SRV.INFO")]
    imports.append(_stream(f"tokens.{tenant}.>"))
    imports += [_stream(f"{kind}.{tenant}.>", to=f"{LIVE}.{kind}.{tenant}.>") for kind in ("results", "events")]
    for stream in COPIES:
        reset = f"CONSUMER.RESET.{stream.name}.{copier(tenant)}"
        imports += [
            _service(SERVICES, f"$JS.API.{reset}", to=f"source.API.{reset}"),
            _service(SERVICES, f"$JS.FC.{stream.name}.{copier(tenant)}.>"),
            _stream(delivered(stream, tenant)),
        ]
    exports = [f'{{service: "$JS.API.>", response: stream, accounts: [{_quoted(SERVICES)}]}}']
    users = [tenant_user(name, password, tenant) for name, password in members.items()]
    return _account(account(tenant), limits, users, exports, imports)


def _account(name: str, jetstream: str, users: Sequence[User], exports: Sequence[str], imports: Sequence[str]) -> str:
    def rows(lines: Sequence[str]) -> str:
        return "\n".join(f"      {line}" for line in lines)

    return (
        f"  {_quoted(name)} {{\n    jetstream: {jetstream}\n"
        f"    users: [\n" + "\n".join(map(_user, users)) + "\n    ]\n"
        f"    exports: [\n{rows(exports)}\n    ]\n    imports: [\n{rows(imports)}\n    ]\n  }}"
    )


def _user(user: User) -> str:
    permissions = ""
    if user.publish or user.subscribe:
        lists = f"publish: {{allow: {_list(user.publish)}}}, subscribe: {{allow: {_list(user.subscribe)}}}"
        permissions = f", permissions: {{{lists}}}"
    return f"      {{user: {_quoted(user.name)}, password: {_quoted(user.password)}{permissions}}}"


def _service(owner: str, subject: str, to: str = "") -> str:
    mapped = f", to: {_quoted(to)}" if to else ""
    return f"{{service: {{account: {_quoted(owner)}, subject: {_quoted(subject)}}}{mapped}}}"


def _stream(subject: str, to: str = "") -> str:
    mapped = f", to: {_quoted(to)}" if to else ""
    return f"{{stream: {{account: {_quoted(SERVICES)}, subject: {_quoted(subject)}}}{mapped}}}"


def _list(subjects: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, subjects)) + "]"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
