"""Celery and taskiq, in an environment of their own: `.venv-peers`, made from the lock on first use."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from client.stack.info import StackInfo
from loadtest.fanout.system import Incomplete, Measured

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-peers"
PEERS = ROOT / "loadtest" / "peers"
LOCK = PEERS / "requirements.lock"
STAMP = ENVIRONMENT / "lock.sha256"
PYTHON = ENVIRONMENT / "bin" / "python"
SHARD = 15
GIVE_UP_S = 900.0


def is_ready() -> bool:
    """Whether the environment is there and made from this lock."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == _lock_hash()


def install() -> None:
    """Make the environment; raises Incomplete with pip's complaint."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]
    done = subprocess.run([*pip, "-r", str(LOCK)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Incomplete(f"{LOCK.name} could not be installed: {done.stderr.strip()[-2000:]}")
    STAMP.write_text(_lock_hash())


def _lock_hash() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def celery(stack: StackInfo, n: int) -> Measured:
    return _run("celery_bench.py", stack, n, shard=1)


def celery_sharded(stack: StackInfo, n: int) -> Measured:
    return _run("celery_bench.py", stack, n, shard=SHARD)


def taskiq(stack: StackInfo, n: int) -> Measured:
    return _run("taskiq_bench.py", stack, n, shard=1)


def taskiq_sharded(stack: StackInfo, n: int) -> Measured:
    return _run("taskiq_bench.py", stack, n, shard=SHARD)


def _run(script: str, stack: StackInfo, n: int, shard: int) -> Measured:
    """The script starts its own worker, warms it up, measures, and prints one line of JSON."""
    redis = stack.redis_url.rsplit("/", maxsplit=1)[0] + "/1"  # the same server, a database of its own
    env = os.environ | {"BENCH_NATS_URL": stack.operator_url, "BENCH_REDIS_URL": redis}
    command = [str(PYTHON), script, "--n", str(n), "--shard", str(shard)]
    try:
        done = subprocess.run(command, cwd=PEERS, env=env, capture_output=True, text=True, timeout=GIVE_UP_S)
    except subprocess.TimeoutExpired:
        raise Incomplete(f"{script}: not done within {GIVE_UP_S:.0f} s") from None
    if done.returncode != 0:
        raise Incomplete(f"{script}: {done.stderr.strip()[-2000:]}")
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(int(measured["items"]), float(measured["seconds"]))
