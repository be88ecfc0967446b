"""The passwords of a stack: made when it is set up, kept in files that only their owner can read."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, field

from client.errors import StackError
from contracts.subjects import TOKEN

FILE = "secrets.json"
DEFAULT_TENANT = "default"
OPERATOR = "penstock-operator"
"""Who may do everything on NATS's account of the services, and on Redis."""

SYSTEM = "penstock-system"
"""Who may look at the NATS server itself."""

_BYTES = 24


class Secrets(Struct, frozen=True):
    """Passwords by the name of their user; tenants' users are called like their tenant."""

    operators: dict[str, str] = field(default_factory=dict)  # NATS: OPERATOR and SYSTEM
    services: dict[str, str] = field(default_factory=dict)  # NATS, by service
    tenants: dict[str, str] = field(default_factory=dict)  # NATS
    redis: dict[str, str] = field(default_factory=dict)  # OPERATOR, and `services`

    def complete(self, services: Iterable[str], tenants: Iterable[str]) -> "Secrets":
        """With passwords for everybody who has none yet; those that there are stay."""
        for tenant in tenants:
            if not TOKEN.match(tenant) or tenant.startswith("penstock-"):
                raise StackError(
                    f"tenant {tenant[:80]!r}: expected letters, digits, - and _, not beginning with penstock-"
                )
        return Secrets(
            operators=_with(self.operators, (OPERATOR, SYSTEM)),
            services=_with(self.services, services),
            tenants=_with(self.tenants, tenants),
            redis=_with(self.redis, (OPERATOR, "services")),
        )


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
    return known | {name: secrets.token_urlsafe(_BYTES) for name in names if name not in known}
