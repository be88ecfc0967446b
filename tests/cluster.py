"""Three nats-servers of one cluster, with the configuration that Kubernetes gets and the accounts of the bus."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from servers import free_port, wait_for_port

from client.stack.accounts import accounts_text
from client.stack.config import nats_binary
from client.stack.provision import provision
from client.stack.secrets import OPERATOR, Secrets
from shared.addresses import servers

DEPLOYED = Path(__file__).parents[1] / "deploy" / "kubernetes" / "base" / "nats" / "nats.conf"
SIZE = 3
_READY_S = 60.0


@dataclass
class NatsCluster:
    """The servers by their names, nats-0 to nats-2; each may go and come back."""

    folder: Path
    secrets: Secrets
    ports: dict[str, int] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def url(self, user: str, password: str) -> str:
        """All servers, as a setting carries them."""
        return f"nats://{user}:{password}@" + ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def write(self) -> None:
        """The deployed configuration of each server, with addresses of this machine."""
        names = [f"nats-{n}" for n in range(SIZE)]
        self.ports = {name: free_port() for name in names}
        routes = {name: free_port() for name in names}
        accounts = accounts_text(self.secrets)
        for name in names:
            home = self.folder / name
            (home / "accounts").mkdir(parents=True)
            (home / "accounts" / "accounts.conf").write_text(accounts)
            places = {
                '"0.0.0.0:4222"': f'"127.0.0.1:{self.ports[name]}"',
                '"0.0.0.0:8222"': f'"127.0.0.1:{free_port()}"',
                '"0.0.0.0:6222"': f'"127.0.0.1:{routes[name]}"',
                '"/data"': f'"{home / "store"}"',
                **{f"nats://{other}.nats:6222": f"nats://127.0.0.1:{routes[other]}" for other in names},
            }
            text = DEPLOYED.read_text()
            for deployed, here in places.items():
                assert deployed in text
                text = text.replace(deployed, here)
            (home / "nats.conf").write_text(text)

    def start(self, name: str) -> None:
        log = (self.folder / name / "log").open("ab")
        command = [str(nats_binary()), "-c", str(self.folder / name / "nats.conf")]
        self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "POD_NAME": name})
        wait_for_port(self.ports[name])

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self._running.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Client]:
        """Who may do everything on the services' account."""
        url = self.url(OPERATOR, self.secrets.operators[OPERATOR])
        nc = await nats.connect(servers(url), max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_silent)
        yield nc
        await nc.close()

    async def ready(self, replicas: int) -> None:
        """Returns when the servers have found each other and the streams are there."""
        async with self.operator() as nc:
            async with asyncio.timeout(_READY_S):
                while True:
                    try:
                        await nc.jetstream().account_info()
                        await provision(nc, self.secrets.tenants, replicas)
                        return
                    except NatsError:
                        await asyncio.sleep(0.2)


@asynccontextmanager
async def cluster(folder: Path, secrets: Secrets, replicas: int = SIZE) -> AsyncIterator[NatsCluster]:
    """A running cluster with its streams; ends it."""
    found = NatsCluster(folder, secrets)
    found.write()
    try:
        for name in found.ports:
            found.start(name)
        await found.ready(replicas)
        yield found
    finally:
        found.stop()


async def _silent(_: Exception) -> None:
    """Connections are cut on purpose."""
