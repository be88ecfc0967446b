"""What is known of a stack: where its data lies, where it answers, which processes it is made of."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2s
from pathlib import Path

import msgspec
from msgspec import Struct, field

from client.errors import StackError
from client.stack.secrets import write_private

DEFAULT_DATA = ".penstock"
DATA_VARIABLE = "PENSTOCK_DATA"
SOCKET_LIMIT = 100  # bytes; Linux takes 107, macOS 103


class ProcessInfo(Struct, frozen=True):
    """A process of the stack. `state` is supervisord's word: RUNNING, STARTING, BACKOFF, FATAL, STOPPED, EXITED."""

    name: str
    pid: int = 0
    state: str = "STOPPED"
    log: str = ""
    started: int = 0  # unix seconds


class StackInfo(Struct, frozen=True):
    """A stack, as `<data>/stack.json` records it, which only its owner can read."""

    data: str
    nats_url: str  # as a client of the tenant `default` uses it; its password stands in it, as in the others
    operator_url: str  # NATS, on the account of the services, with all rights
    redis_url: str  # with all rights
    nats_port: int
    redis_port: int
    socket: str  # supervisord listens here
    services: dict[str, str]  # name and module of each
    supervisor_pid: int = 0
    started_at: float = 0.0
    processes: list[ProcessInfo] = field(default_factory=list)

    @property
    def pids(self) -> dict[str, int]:
        return {process.name: process.pid for process in self.processes}


def find_data(data: Path | None = None) -> Path:
    """The data folder: as given, else PENSTOCK_DATA, else `.penstock` in the current folder; absolute."""
    return (data or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)).expanduser().resolve()


def stack_id(data: Path) -> str:
    """A short name that tells this data folder's stack from any other on the machine."""
    return blake2s(os.fsencode(data), digest_size=6).hexdigest()


def load(data: Path) -> StackInfo | None:
    """The record of the stack, or None where there is none or it cannot be read."""
    try:
        return msgspec.json.decode((data / "stack.json").read_bytes(), type=StackInfo)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def save(info: StackInfo) -> None:
    target = Path(info.data) / "stack.json"
    write_private(target, msgspec.json.format(msgspec.json.encode(info)).decode())


def forget(data: Path) -> None:
    (data / "stack.json").unlink(missing_ok=True)


def socket_folder() -> Path:
    """A private folder for sockets: paths of unix sockets must be short, those of data folders need not be."""
    for base in (tempfile.gettempdir(), "/tmp"):
        folder = Path(base) / f"penstock-{os.getuid()}"
        if len(os.fsencode(folder)) + 20 > SOCKET_LIMIT:
            continue
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
            raise StackError(f"{folder}: must be a folder of your own with mode 700; remove it and try again")
        return folder
    raise StackError("no temporary folder with a path short enough for a unix socket; set TMPDIR to a short path")


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; raises StackError with the text `busy` where another process holds it."""
    import fcntl  # here, because only starting and stopping needs it

    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(busy) from None
        yield
