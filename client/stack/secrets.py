"""The passwords of a stack: made when it is set up, kept in files that only their owner can read."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from client.errors import StackError
from contracts.subjects import TOKEN
from shared.settings import StreamSizes

FILE = "secrets.json"
DEFAULT_TENANT = "default"
OPERATOR = "penstock-operator"
"""Who may do everything on NATS's account of the services, and on Redis."""

SYSTEM = "penstock-system"
"""Who may look at the NATS server itself."""

_BYTES = 24


class Secrets(Struct, frozen=True):
    """Passwords by the name of their user. A tenant's first user is called like the tenant, others <tenant>.<user>.
    With them, what the accounts of these users may store."""

    operators: dict[str, str] = field(default_factory=dict)  # NATS: OPERATOR and SYSTEM
    services: dict[str, str] = field(default_factory=dict)  # NATS, by service
    tenants: dict[str, str] = field(default_factory=dict)  # NATS, the first user of each tenant
    redis: dict[str, str] = field(default_factory=dict)  # OPERATOR, and `services`
    users: dict[str, dict[str, str]] = field(default_factory=dict)  # NATS, by tenant: its other users by their own name
    removed: list[str] = field(default_factory=list)  # tenants whose users are gone and whose data is not
    tenant_gb: float = 64.0  # what each tenant's copies and uploads may take

    def complete(self, services: Iterable[str], tenants: Iterable[str]) -> "Secrets":
        """With passwords for everybody who has none yet; those that there are stay."""
        tenants = list(tenants)
        for tenant in tenants:
            if not TOKEN.match(tenant) or tenant.startswith("penstock-"):
                raise StackError(
                    f"tenant {tenant[:80]!r}: expected letters, digits, - and _, not beginning with penstock-"
                )
        return replace(
            self,
            operators=_with(self.operators, (OPERATOR, SYSTEM)),
            services=_with(self.services, services),
            tenants=_with(self.tenants, tenants),
            redis=_with(self.redis, (OPERATOR, "services")),
            removed=[tenant for tenant in self.removed if tenant not in tenants],
        )

    def sized(self, sizes: StreamSizes) -> "Secrets":
        """With the size of accounts that is set, if one is."""
        return replace(self, tenant_gb=sizes.tenant_gb or self.tenant_gb)

    @property
    def accounts(self) -> list[str]:
        """All tenants that have an account on the NATS server."""
        return [*self.tenants, *self.removed]

    def members(self, tenant: str) -> dict[str, str]:
        """The users of a tenant by the names that NATS knows them by, and their passwords."""
        first = {tenant: self.tenants[tenant]} if tenant in self.tenants else {}
        return first | {member(tenant, user): word for user, word in self.users.get(tenant, {}).items()}


def member(tenant: str, user: str = "") -> str:
    """The NATS name of a tenant's user; a dot is in no tenant's name."""
    return f"{tenant}.{user}" if user else tenant


def new_password() -> str:
    return secrets.token_urlsafe(_BYTES)


def service_user(service: str) -> str:
    """The NATS user of a service; no tenant can have such a name."""
    return f"penstock-{service}"


def load(data: Path) -> Secrets:
    """What was made before; nothing where that is nothing. Raises StackError where it cannot be read."""
    file = data / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Secrets)
    except FileNotFoundError:
        return Secrets()
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(f"{file}: cannot be read ({type(error).__name__}); put it back, or remove it") from None


def save(data: Path, found: Secrets) -> None:
    write_private(data / FILE, msgspec.json.format(msgspec.json.encode(found)).decode())


def write_private(file: Path, text: str) -> None:
    """Replace a file by one that nobody else could read at any moment."""
    draft = file.with_name(f"{file.name}.tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)


def _with(known: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    return known | {name: new_password() for name in names if name not in known}
