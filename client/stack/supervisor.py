"""Talks to supervisord, which keeps the stack's processes alive."""

import http.client
import subprocess
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any

from client.errors import StackError
from client.stack.config import environment
from client.stack.info import ProcessInfo, StackInfo


class Supervisor:
    """The supervisord of one stack. Every method raises OSError where it does not answer."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def pid(self) -> int:
        return int(self._call("getPID"))

    def processes(self) -> list[ProcessInfo]:
        """All programs of the stack and how they are."""
        return [
            ProcessInfo(row["name"], row["pid"], row["statename"], row["stdout_logfile"], row["start"])
            for row in self._call("getAllProcessInfo")
        ]

    def start_missing(self) -> list[str]:
        """Start what is not running, and say what that was."""
        rows = self._call("getAllProcessInfo")
        missing = [row for row in rows if row["statename"] in ("FATAL", "EXITED", "STOPPED", "BACKOFF")]
        for row in missing:
            self._call("startProcess", f"{row['group']}:{row['name']}", False)
        return [row["name"] for row in missing]

    def shutdown(self) -> None:
        """Stop the services, then what they stand on, then supervisord itself. Returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        from supervisor.xmlrpc import SupervisorTransport  # here: it loads an HTTP server

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except (http.client.HTTPException, xmlrpc.client.Error) as error:
                raise ConnectionError(f"supervisord at {self._socket}: {error}") from error


def spawn(info: StackInfo) -> int:
    """Start supervisord in the background, which starts all the rest. Returns its process id."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", "supervisord.conf"]
    started = subprocess.run(
        command, cwd=info.data, env=environment(info), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if started.returncode:
        lines = (started.stderr or started.stdout).strip().splitlines()
        raise StackError(f"supervisord did not start: {lines[-1] if lines else f'exit {started.returncode}'}")
    return Supervisor(info.socket).pid()


def running(info: StackInfo | None) -> Supervisor | None:
    """The stack's supervisord, if it is the one that the record speaks of and it answers."""
    if info is None or not Path(info.socket).exists():
        return None
    supervisor = Supervisor(info.socket)
    try:
        return supervisor if supervisor.pid() == info.supervisor_pid else None
    except OSError:
        return None
