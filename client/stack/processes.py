"""Finds and ends the processes of a stack, also those that lost their supervisor."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from client.stack.config import MARK

GRACE_S = 5.0


def of_stack(data: Path) -> list[psutil.Process]:
    """Every process that was started by this data folder's stack, children of children too."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in mine and process.environ().get(MARK) == str(data):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
    return found


def end(processes: list[psutil.Process], grace_s: float = GRACE_S) -> int:
    """Ask them to stop, kill those that do not; returns how many there were."""
    for process in processes:
        _signal(process.terminate)
    for process in _wait(processes, grace_s):
        _signal(process.kill)
    _wait(processes, grace_s)
    return len(processes)


def alive(pid: int) -> bool:
    """A process that has ended but was not collected by its parent (there may be none that does) is not alive."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until all are gone; returns those that are not."""
    until = time.monotonic() + seconds
    while (left := [process for process in processes if alive(process.pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def sweep(data: Path, grace_s: float = GRACE_S) -> int:
    """End all that is left of a stack; returns how many processes that were. Repeats, as a process may start others."""
    ended = 0
    while left := of_stack(data):
        ended += end(left, grace_s)
    return ended


def memory(pid: int) -> int:
    """Bytes that a process holds for itself, its children's included; 0 where it is gone."""
    try:
        process = psutil.Process(pid)
        return sum(_own_memory(one) for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def _own_memory(process: psutil.Process) -> int:
    """Proportional where the system says so: shared pages of seven interpreters are not counted seven times."""
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.uss))


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.Error):
        send()
