"""What needs Redis or the engines of compose.yaml runs in its container `operator`: only its network reaches them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from client.errors import StackError, Unreachable
from client.stack.compose import FOLDER_VARIABLE, secrets_folder
from client.stack.secrets import FILE

SHARED = Path("/exports")


def run_inside(arguments: Sequence[str], shared: Path | None = None) -> int:
    """Run `penstock` with these arguments there; what it prints comes out here. Returns its exit code.

    `shared`, a folder of this machine, is SHARED there, and written to as its owner. Called in the folder of
    compose.yaml. Raises Unreachable where there are no secrets, StackError where there is no Docker.
    """
    if not (secrets_folder() / FILE).exists():
        raise Unreachable(f"{secrets_folder()}: no secrets there; run make secrets, or set {FOLDER_VARIABLE}")
    options = ["--rm", "--no-deps", "--no-TTY"]
    if shared is not None:
        options += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{shared}:{SHARED}"]
    sys.stdout.flush()
    try:
        return subprocess.run(["docker", "compose", "run", *options, "operator", *arguments], check=False).returncode
    except FileNotFoundError:
        raise StackError("docker: not found; this command runs in the container `operator` of compose.yaml") from None
