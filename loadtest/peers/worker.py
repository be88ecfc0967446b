"""Starts a peer's worker for the time of a measurement. Runs in the peers' own environment."""

import argparse
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKERS = 2  # processes: one a core on the machines that we measure on
READY_S = 60.0
GIVE_UP_S = 600.0


@contextmanager
def worker(program: str, *arguments: str) -> Iterator[None]:
    """Run a program of this environment, its output on stderr; it and its children are ended afterwards."""
    command = [str(Path(sysconfig.get_path("scripts")) / program), *arguments]
    here = Path(__file__).parent
    process = subprocess.Popen(command, cwd=here, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def arguments() -> tuple[int, int]:
    """How many items, and how many a task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--shard", type=int, default=1)
    given = parser.parse_args()
    return given.n, given.shard


def shards(n: int, size: int) -> list[list[int]]:
    return [list(range(start, min(n, start + size))) for start in range(0, n, size)]


def check_and_print(results: list[int], n: int, seconds: float) -> None:
    """The last line that the bench reads; a result that is missing or there twice is an error."""
    if sorted(results) != list(range(n)):
        sys.exit(f"{len(results)} results, {len(set(results))} of them different, instead of {n}")
    print(json.dumps({"items": n, "seconds": seconds}))
