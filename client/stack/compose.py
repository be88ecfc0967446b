"""The stack of compose.yaml: `make secrets` writes its passwords and configuration, its container `provision` makes the
streams.

Files lie in `deploy/secrets/`, a folder that only its owner may enter; the containers run as other users, so the files
in it may be read by whoever gets them mounted.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import nats

from client.errors import StackError, Unreachable
from client.stack import secrets
from client.stack.accounts import accounts_text
from client.stack.config import MAX_PAYLOAD, MAX_STORE, SERVICES, redis_users
from client.stack.provision import provision
from client.stack.secrets import DEFAULT_TENANT, OPERATOR, Secrets, service_user
from shared.errors import PenstockError

FOLDER = Path("deploy") / "secrets"
FOLDER_VARIABLE = "PENSTOCK_COMPOSE_SECRETS"
NATS_VARIABLE = "PENSTOCK_NATS"
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
  max_memory_store: 16GB
}}
{accounts}"""

REDIS = """\
# Written by `make secrets`; changes are lost.
bind 0.0.0.0
port 6379
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
{users}"""


def write_secrets(folder: Path, host: str, tenants: list[str]) -> None:
    """Write what is missing; passwords that there are stay. `host` is where tenants reach NATS: host:port."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    known = secrets.load(folder).complete(SERVICES, (DEFAULT_TENANT, *tenants))
    secrets.save(folder, known)
    files = {
        "nats.conf": NATS.format(max_payload=MAX_PAYLOAD, max_store=MAX_STORE, accounts=accounts_text(known)),
        "redis.conf": REDIS.format(users=redis_users(known)),
        "redis-password": known.redis["services"],
        "redis-url": f"redis://services:{known.redis['services']}@redis:6379/0",
        **{f"{name}.nats": f"nats://{service_user(name)}:{word}@nats:4222" for name, word in known.services.items()},
        **{f"{name}.url": f"nats://{name}:{word}@{host}" for name, word in (known.tenants | known.operators).items()},
    }
    for name, text in files.items():
        secrets.write_private(folder / name, text)
        (folder / name).chmod(0o444)
    (folder / secrets.FILE).chmod(0o444)


def tenant_url(tenant: str) -> str:
    """Where a tenant's client reaches the stack of compose. Raises Unreachable where there are no secrets."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)
    try:
        return (folder / f"{tenant}.url").read_text(encoding="utf-8")
    except OSError:
        raise Unreachable(
            f"{folder}: no address of the tenant {tenant!r}; run make secrets in the folder of compose.yaml,"
            f" or set {FOLDER_VARIABLE}"
        ) from None


async def _provision(address: str, known: Secrets) -> None:
    connection = await nats.connect(f"nats://{OPERATOR}:{known.operators[OPERATOR]}@{address}")
    await provision(connection, known.tenants)
    await connection.close()


def main(arguments: list[str]) -> int:
    """`secrets [TENANT…]` in the folder of compose.yaml, or `provision` in its container."""
    try:
        match arguments:
            case ["secrets", *tenants]:
                folder = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)
                write_secrets(folder, os.environ.get("NATS_LISTEN", "127.0.0.1:4222"), tenants)
                print(f"written: {folder}/")
            case ["provision"]:
                known = msgspec.json.decode(MOUNTED.read_bytes(), type=Secrets)
                asyncio.run(_provision(os.environ[NATS_VARIABLE], known))
            case _:
                raise StackError("expected: secrets [TENANT…] | provision")
    except PenstockError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
