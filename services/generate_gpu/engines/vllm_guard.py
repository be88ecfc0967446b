"""Ends an engine's processes when the service that started them has died, however it died.

vLLM's own processes outlive a `kill -9` of their parent and keep its memory, on a GPU nearly all of it: the service
that is started in its place could not open an engine. A guard is a small process of its own that reads from a pipe;
the kernel closes it with the service.
"""

import subprocess
import sys
from contextlib import suppress

import psutil


class Guard:
    """Watches over children of this process, except guards."""

    def __init__(self) -> None:
        self._watched: set[psutil.Process] = set()
        self._before = set(psutil.Process().children(recursive=True))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, start_new_session=True, text=True
        )
        assert self._process.stdin is not None, "it was asked for"
        self._list = self._process.stdin

    def watch(self) -> None:
        """Over those, too, that have come since the last time."""
        new = set(psutil.Process().children(recursive=True)) - self._watched
        self._watched |= new
        for child in new:
            with suppress(psutil.NoSuchProcess):
                if __name__ not in child.cmdline():
                    self._list.write(f"{child.pid} {child.create_time()}\n")
        self._list.flush()

    def kill(self) -> None:
        """End those that have come since this guard is there; who cleans up after them is left."""
        for child in self._watched - self._before:
            with suppress(psutil.Error):
                if not any(__name__ in word or "resource_tracker" in word for word in child.cmdline()):
                    child.kill()

    def close(self) -> None:
        """Watch no more: the engine has been shut down, and another one may have processes here too."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Read whom to watch over until the pipe ends; a number that another process has by now is left alone."""
    for line in sys.stdin.readlines():
        pid, created = line.split()
        with suppress(psutil.Error):
            child = psutil.Process(int(pid))
            if child.create_time() == float(created):
                child.kill()


if __name__ == "__main__":
    main()
