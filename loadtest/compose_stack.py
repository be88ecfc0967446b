"""The stack of compose.yaml under a name and secrets of its own, for tests and for `make chaos-stack`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from client.stack.compose import Compose
from client.stack.ports import free_ports

REPOSITORY = Path(__file__).parents[1]
HOST = "host.docker.internal"
"""This machine, as generate-gpu reaches it: for a model that is played here."""
_COMMAND_S = 600.0


class StackFault(RuntimeError):
    """A command of the engine or of Penstock failed; the text is what it said, `output` its standard output."""

    def __init__(self, command: list[str], output: str, errors: str) -> None:
        super().__init__(f"{' '.join(command[-6:])}: {output[-3000:]}{errors[-3000:]}")
        self.output = output


class ComposeStack:
    """Where it answers, and commands on it. Words are in OpenSearch, vectors in Edge unless `vectors` says qdrant."""

    def __init__(
        self,
        folder: Path,
        project: str,
        scale: Mapping[str, int],
        *,
        vectors: str = "edge",
        tls: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.nats, self.jaeger, self.prometheus = (f"127.0.0.1:{port}" for port in free_ports((0, 0, 0)))
        self.secrets = folder / "secrets"
        self.scale = dict(scale)
        Compose(self.secrets, self.nats).write(tls)
        override = self._override(folder, with_qdrant=vectors == "qdrant")
        files = ["compose.yaml", *(["compose.tls.yaml"] if tls else []), str(override)]
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_FILE": os.pathsep.join(files),
            "COMPOSE_PROFILES": "observe",
            "NATS_LISTEN": self.nats,
            "JAEGER_LISTEN": self.jaeger,
            "PROMETHEUS_LISTEN": self.prometheus,
            "RETRIEVE_VECTORS": vectors,
            "PENSTOCK_OTLP": "http://jaeger:4318",
            "PENSTOCK_COMPOSE_SECRETS": str(self.secrets),
            **(environment or {}),
        }

    def start(self) -> None:
        self.compose("up", "--detach", "--build", "--wait", *self._scaled(self.scale))

    def stop(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5", "--remove-orphans")

    def renew(self, service: str) -> str:
        """Put new containers in the place of all of a service's, as an upgrade does; returns when they are ready.

        Where one ended while it started, the engine has started it again, and what it said last is returned.
        """
        wait = ["up", "--detach", "--wait", "--no-deps", *self._scaled({service: self.scale.get(service, 1)})]
        try:
            self.compose(*wait, "--force-recreate", service)
        except StackFault:
            said = self.compose("logs", "--no-log-prefix", "--tail", "4", service)
            self.compose(*wait, service)
            return said.strip()
        return ""

    def compose(self, *arguments: str) -> str:
        return self._run(["docker", "compose", *arguments])

    def penstock(self, *arguments: str) -> str:
        """What the command prints, called as a user of this machine does."""
        program = "import sys; from client.cli.main import run; sys.exit(run(sys.argv[1:]))"
        return self._run([sys.executable, "-c", program, "--stack", "compose", *arguments])

    def doctor(self) -> list[dict[str, str | bool]]:
        """What `penstock doctor` has found not to be well, but for what is slow: that says more of this machine."""
        try:
            said = self.penstock("doctor", "--json")
        except StackFault as fault:
            said = fault.output
        checks: list[dict[str, str | bool]] = json.loads(said)["checks"]
        return [check for check in checks if not check["ok"] and "slow" not in str(check["found"])]

    def _override(self, folder: Path, *, with_qdrant: bool) -> Path:
        """Says where the secrets are, lets what calls models reach this machine, and leaves Qdrant out where it is not
        used: its image need not be there then."""
        mounted = [path for path in self.secrets.iterdir() if path.is_file()]
        this_machine = {"extra_hosts": [f"{HOST}:host-gateway"]}
        services = {"generate-gpu": this_machine, "operator": this_machine}
        if not with_qdrant:
            services["qdrant"] = {"profiles": ["left-out"]}
        changes = {"secrets": {path.name: {"file": str(path)} for path in mounted}, "services": services}
        file = folder / "compose.override.json"
        file.write_text(json.dumps(changes))
        return file

    def _scaled(self, scale: Mapping[str, int]) -> list[str]:
        return [word for service, count in scale.items() for word in ("--scale", f"{service}={count}")]

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False,
            timeout=_COMMAND_S,
        )  # fmt: skip
        if done.returncode:
            raise StackFault(command, done.stdout, done.stderr)
        return done.stdout


def no_engine() -> str:
    """Why no stack can be started here; empty where one can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "" if asked.returncode == 0 else "no container engine answers"
