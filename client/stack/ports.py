"""Free ports. They are taken below the range from which the system serves outgoing connections, so that a port is still
free when a process comes back after a crash."""

import random
import socket
from collections.abc import Iterator

from client.errors import StackError

RANGE = range(20000, 32000)
HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(wanted: tuple[int, ...]) -> list[int]:
    """As many different free ports as were wanted: the wanted one where it is free (0: any), else another."""
    candidates = _candidates()
    chosen: list[int] = []
    for port in wanted:
        good = port if port and port not in chosen and is_free(port) else 0
        while not good:
            candidate = next(candidates, 0)
            if not candidate:
                raise StackError(f"no free port on {HOST} between {RANGE.start} and {RANGE.stop}")
            good = candidate if candidate not in chosen and is_free(candidate) else 0
        chosen.append(good)
    return chosen


def _candidates() -> Iterator[int]:
    yield from random.sample(RANGE, 500)
