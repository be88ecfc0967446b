"""The file of a batch's results: written as they come, put in order at the end, read again to resume."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from client.errors import UsageError
from contracts.item import Usage
from contracts.job import ItemResult


@dataclass
class Counts:
    """What the results say so far."""

    succeeded: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    rungs: Counter[str] = field(default_factory=Counter)  # answers by rung, those of the model asked for left out

    @property
    def done(self) -> int:
        return self.succeeded + self.failed

    def add(self, result: ItemResult) -> None:
        self.usage = self.usage + result.usage
        if result.failure is None:
            self.succeeded += 1
            if result.answer is not None and result.answer.rung != "primary":
                self.rungs[result.answer.rung] += 1
        else:
            self.failed += 1
            self.reasons[result.failure.code] += 1


class OutFile:
    """One JSON line an item. Only the places of the lines are held in memory, so a batch of a million fits."""

    def __init__(self, path: Path, job: str, size: int) -> None:
        self._path = path
        self._job = job
        self._size = size
        self._places: dict[int, tuple[int, int]] = {}  # n → offset and length
        self.counts = Counts()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._file: BinaryIO = self._path.open("r+b")
        for offset, line in self._lines():
            self._read(offset, line)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def missing(self) -> list[int]:
        return [n for n in range(self._size) if n not in self._places]

    def add(self, result: ItemResult) -> bool:
        """Append a result; False where its item has one already."""
        if result.n in self._places or not 0 <= result.n < self._size:
            return False
        line = msgspec.json.encode(msgspec.structs.replace(result, job=result.job or self._job))
        offset = self._file.seek(0, 2)
        self._file.write(line + b"\n")
        self._places[result.n] = (offset, len(line))
        self.counts.add(result)
        return True

    def flush(self) -> None:
        self._file.flush()

    def drop_failed(self) -> None:
        """Forget the failed items, so that they are missing again."""
        self.flush()
        for n in list(self._places):
            if self._result(n).failure is not None:
                del self._places[n]
        self.counts = Counts()
        for n in self._places:
            self.counts.add(self._result(n))
        self.sort()

    def sort(self) -> None:
        """Rewrite the file in the order of the items; what it held of no use is gone then."""
        self.flush()
        draft = self._path.with_name(self._path.name + ".tmp")
        with draft.open("wb") as target:
            places = {}
            for n in sorted(self._places):
                line = self._line(n)
                places[n] = (target.tell(), len(line))
                target.write(line + b"\n")
        self._file.close()
        draft.replace(self._path)
        self._file = self._path.open("r+b")
        self._places = places

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Offsets and lines; half a line at the end, of a writer that died, is cut off."""
        offset = 0
        for line in iter(self._file.readline, b""):
            if not line.endswith(b"\n"):
                self._file.truncate(offset)
                return
            yield offset, line[:-1]
            offset += len(line)

    def _read(self, offset: int, line: bytes) -> None:
        try:
            result = msgspec.json.decode(line, type=ItemResult)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise UsageError(f"{self._path}: holds something else than results; choose another -o") from None
        if result.job != self._job and not result.job.startswith(f"{self._job}-"):
            raise UsageError(
                f"{self._path}: holds the results of another batch (job {result.job or '?'}, not {self._job}); "
                "choose another -o, or remove the file"
            )
        if result.n not in self._places and 0 <= result.n < self._size:
            self._places[result.n] = (offset, len(line))
            self.counts.add(result)

    def _line(self, n: int) -> bytes:
        offset, length = self._places[n]
        self._file.seek(offset)
        return self._file.read(length)

    def _result(self, n: int) -> ItemResult:
        return msgspec.json.decode(self._line(n), type=ItemResult)
