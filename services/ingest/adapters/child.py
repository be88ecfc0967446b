"""The parser child: reads hostile files in a process of its own, with limits on time and memory.

It takes requests from stdin until that ends. A crash or a hang of a parser library ends this process only.
"""

import contextlib
import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from services.ingest.adapters.limits import LENGTH_BYTES, OUT_OF_MEMORY, Limits
from services.ingest.adapters.reading import read
from services.ingest.domain.chunks import cut
from services.ingest.domain.parts import split
from services.ingest.domain.request import Request, Result
from shared.errors import ItemError


def main(limits: Limits) -> None:
    """Answer requests one by one. The answers go to a private copy of stdout: libraries may print to the other."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and does not take it
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    try:
        while payload := _receive(sys.stdin.buffer):
            reply = msgspec.msgpack.encode(_answer(msgspec.msgpack.decode(payload, type=Request), limits))
            replies.write(len(reply).to_bytes(LENGTH_BYTES, "big") + reply)
            replies.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _receive(stream: BinaryIO) -> bytes:
    return stream.read(int.from_bytes(stream.read(LENGTH_BYTES), "big"))


def _answer(request: Request, limits: Limits) -> Result:
    signal.alarm(limits.seconds + 1)  # has no handler: it ends a process that hangs in C code, wanted or forgotten
    try:
        return _read(request, limits)
    except ItemError as error:
        return Result(code=error.code, reason=str(error))
    except RecursionError:
        return Result(code="unreadable", reason=f"{request.name}: nested too deeply to be read")
    finally:
        signal.alarm(0)


def _read(request: Request, limits: Limits) -> Result:
    reading = read(request.name, request.content, request.is_text, limits)
    if request.tokens:
        return Result(reading.title, reading.pages, parts=split(reading, request.tokens))
    return Result(reading.title, reading.pages, chunks=cut(request.document, reading))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Limits))
