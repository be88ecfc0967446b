"""The stack of compose.yaml: `make secrets` writes its passwords and configuration, its container `provision` makes the
streams.

Files lie in `deploy/secrets/`, a folder that only its owner may enter; the containers run as other users, so the files
in it may be read by whoever gets them mounted.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
from dotenv import dotenv_values

from client.discovery import connected
from client.errors import StackError, Unreachable, UsageError
from client.stack import secrets
from client.stack.accounts import accounts_text
from client.stack.certificates import CA, remove_certificates, write_certificates
from client.stack.config import MAX_MEMORY, MAX_PAYLOAD, MAX_STORE, SERVICES, redis_users
from client.stack.info import locked
from client.stack.provision import provision
from client.stack.secrets import DEFAULT_TENANT, OPERATOR, Secrets, service_user
from shared.errors import PenstockError
from shared.settings import StreamSizes
from shared.tls import CA as CA_VARIABLE

FOLDER = Path("deploy") / "secrets"
ENV_FILE = ".env"  # beside compose.yaml
FOLDER_VARIABLE = "PENSTOCK_COMPOSE_SECRETS"
NATS_VARIABLE = "PENSTOCK_NATS"  # host:port of the server, or of several with commas between them; tls:// before it
REPLICAS_VARIABLE = "PENSTOCK_STREAM_REPLICAS"
_REACH_S = 2.0
_CONNECT_S = 20
MOUNTED = Path("/run/secrets/secrets.json")

NATS = """\
# Written by `make secrets`; changes are lost.
server_name: penstock
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
max_payload: {max_payload}
jetstream {{
  store_dir: "/data"
  max_file_store: {max_store}
  max_memory_store: {max_memory}
}}
{tls}{accounts}"""

# `handshake_first`: nobody on the line can make a client that comes back say its password in the clear.
NATS_TLS = """\
tls {
  cert_file: "/run/secrets/nats.crt"
  key_file: "/run/secrets/nats.key"
  handshake_first: true
}
"""

REDIS = """\
# Written by `make secrets`; changes are lost.
bind 0.0.0.0
{port}
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
{users}"""

REDIS_PLAIN = "port 6379"
REDIS_TLS = """\
port 0
tls-port 6379
tls-cert-file /run/secrets/redis.crt
tls-key-file /run/secrets/redis.key
tls-ca-cert-file /run/secrets/ca.pem
tls-auth-clients no"""

WITH_TLS = ("nats", "redis", "qdrant")
"""Servers that get certificates."""


class Compose:
    """The folder of secrets as the site of the stack's tenants (client.stack.tenants)."""

    def __init__(self, folder: Path, host: str, inside: str = "nats:4222") -> None:
        """`host` is where tenants reach NATS, `inside` where services do: host:port, or several with commas."""
        self.folder = folder
        self._host = host
        self._inside = inside

    @classmethod
    def here(cls) -> Self:
        """As the environment says, or `.env` beside compose.yaml in the current folder. Raises UsageError."""
        settings = dotenv_values(ENV_FILE) | os.environ
        host = settings.get("NATS_LISTEN") or "127.0.0.1:4222"
        if not host.rpartition(":")[0]:
            raise UsageError(f"NATS_LISTEN: expected host:port, got {host}")
        return cls(secrets_folder(), host, settings.get("NATS_INSIDE") or "nats:4222")

    @property
    def tls(self) -> bool:
        """Whether the servers speak TLS."""
        return (self.folder / CA).exists()

    def known(self) -> Secrets:
        return secrets.load(self.folder)

    def write(self, tls: bool | None = None) -> None:
        """Write what is missing; passwords that there are stay. `tls`: with certificates, without, or as it was."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if tls:
            host = self._host.rpartition(":")[0].strip("[]")
            outside = {host} - {"0.0.0.0", "::"}
            names = {name: {name, "localhost", "127.0.0.1"} for name in WITH_TLS}
            write_certificates(self.folder, names | {"nats": names["nats"] | outside})
        elif tls is False:
            remove_certificates(self.folder, WITH_TLS)
        known = self.known().complete(SERVICES, (DEFAULT_TENANT,))
        known = known.sized(StreamSizes.from_environment(ENV_FILE))
        self.keep(known)
        self.configure(known)

    def keep(self, known: Secrets) -> None:
        everybody = known.operators | {
            name: word for tenant in known.tenants for name, word in known.members(tenant).items()
        }
        urls = {f"{name}.url": self.url(name, word) for name, word in everybody.items()}
        self._put(secrets.FILE, msgspec.json.format(msgspec.json.encode(known)).decode())
        for name, text in urls.items():
            self._put(name, text)
        for file in self.folder.glob("*.url"):
            if file.name not in urls:
                file.unlink()
        bus, redis = ("tls", "rediss") if self.tls else ("nats", "redis")
        port = REDIS_TLS if self.tls else REDIS_PLAIN
        self._put("redis.conf", REDIS.format(users=redis_users(known), port=port))
        self._put("redis-password", known.redis["services"])
        self._put("redis-url", f"{redis}://services:{known.redis['services']}@redis:6379/0")
        self._put("operator.nats", f"{bus}://{OPERATOR}:{known.operators[OPERATOR]}@{self._inside}")
        for name, word in known.services.items():
            self._put(f"{name}.nats", f"{bus}://{service_user(name)}:{word}@{self._inside}")

    def configure(self, known: Secrets, joining: Collection[str] = ()) -> None:
        accounts = accounts_text(known, joining)
        self._put("accounts.conf", accounts)  # what servers of a cluster include
        room = {"max_payload": MAX_PAYLOAD, "max_store": MAX_STORE, "max_memory": MAX_MEMORY}
        self._put("nats.conf", NATS.format(**room, tls=NATS_TLS if self.tls else "", accounts=accounts))

    def url(self, user: str, password: str) -> str:
        return f"{'tls' if self.tls else 'nats'}://{user}:{password}@{self._host}"

    def answers(self) -> bool:
        host, _, port = self._host.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_REACH_S).close()
        except OSError:
            return False
        return True

    def _put(self, name: str, text: str) -> None:
        """Written over, not replaced: a container has mounted the file itself, and would keep the one of before."""
        file = self.folder / name
        if file.exists():
            file.chmod(0o600)
            file.write_text(text, encoding="utf-8")
        else:
            secrets.write_private(file, text)
        file.chmod(0o444)


@contextmanager
def compose_site() -> Iterator[Compose]:
    """The site of the stack of compose, for one change at a time. Raises Unreachable where there are no secrets."""
    site = Compose.here()
    if not (site.folder / secrets.FILE).exists():
        raise Unreachable(f"{site.folder}: no secrets there; run make secrets, or set {FOLDER_VARIABLE}")
    _believe(site.folder)
    with locked(site.folder / ".lock", f"another command changes {site.folder}; try again when it is done"):
        yield site


def secrets_folder() -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)


def _believe(folder: Path) -> None:
    """The stack's own authority, where it has one and the environment names no other."""
    if (folder / CA).exists():
        os.environ.setdefault(CA_VARIABLE, str(folder / CA))


def tenant_url(tenant: str) -> str:
    """Where a tenant's client reaches the stack of compose. Raises Unreachable where there are no secrets."""
    folder = secrets_folder()
    _believe(folder)
    try:
        return (folder / f"{tenant}.url").read_text(encoding="utf-8")
    except OSError:
        raise Unreachable(
            f"{folder}: no address of the tenant {tenant!r}; run make secrets in the folder of compose.yaml, or set"
            f" {FOLDER_VARIABLE}; a new tenant: penstock --stack compose tenant add {tenant}"
        ) from None


async def _provision(addresses: str, known: Secrets, replicas: int) -> None:
    scheme, _, hosts = addresses.rpartition("://")
    url = f"{scheme or 'nats'}://{OPERATOR}:{known.operators[OPERATOR]}@{hosts}"
    async with connected(url, timeout_s=_CONNECT_S) as nc:
        await provision(nc, known.accounts, replicas)


def main(arguments: list[str]) -> int:
    """`secrets [tls|plain]` in the folder of compose.yaml, or `provision` in its container."""
    try:
        match arguments:
            case ["secrets", *how] if how in ([], ["tls"], ["plain"]):
                site = Compose.here()
                site.write({"tls": True, "plain": False}.get("".join(how)))
                print(f"written: {site.folder}/{', with certificates' if site.tls else ''}")
            case ["provision"]:
                known = msgspec.json.decode(MOUNTED.read_bytes(), type=Secrets)
                replicas = int(os.environ.get(REPLICAS_VARIABLE) or 0)
                asyncio.run(_provision(os.environ[NATS_VARIABLE], known, replicas))
            case _:
                raise StackError("expected: secrets [tls|plain] | provision")
    except PenstockError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
