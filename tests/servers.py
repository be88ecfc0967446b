"""Real servers for tests."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.stack import StackInfo, down, up
from client.stack.config import MAX_PAYLOAD, SERVICES, nats_binary, redis_binary
from client.stack.secrets import Secrets, save

_READY_S = 20.0

_NATS = """\
listen: "127.0.0.1:{port}"
max_payload: {max_payload}
jetstream {{ store_dir: "{store}", max_file_store: 64GB }}
"""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """A nats-server with JetStream on files; it can go and come back on the same port with the same files."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = folder / "nats.conf"
        self._config.write_text(_NATS.format(port=self.port, max_payload=MAX_PAYLOAD, store=folder / "store"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(nats_binary()), "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self) -> None:
        """End it in order."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9."""
        self._end(kill=True)

    def restart(self) -> None:
        """kill -9, and start again."""
        self.kill()
        self.start()

    def _end(self, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill() if kill else process.terminate()
            process.wait(10)


@contextmanager
def start_nats(folder: Path) -> Iterator[NatsServer]:
    """A nats-server of its own with JetStream, its files in `folder`; ends it."""
    server = NatsServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def start_redis(folder: Path, port: int = 0) -> Iterator[str]:
    """A redis-server of its own that keeps nothing on disk; gives its URL, and ends it."""
    port = port or free_port()
    command = [str(redis_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


def wait_for_port(port: int) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on port {port}")


@contextmanager
def bus_of_two_tenants(data: Path) -> Iterator[StackInfo]:
    """NATS and Redis of an embedded stack, with accounts for `acme` and `evil`, and users of services that do not run
    here."""
    save(data, Secrets().complete(SERVICES, []))
    try:
        yield up(data, services={}, tenants=["acme", "evil"])
    finally:
        down(data)
