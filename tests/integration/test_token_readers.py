"""The live stream of an answer and its readers: one that stands still holds up neither the stream nor other readers."""

import asyncio
from functools import partial

import msgspec
import nats
import pytest
from in_process import Core, eventually
from nats.aio.msg import Msg

from contracts import subjects
from contracts.job import TokenDelta
from services.generate_gpu.adapters.tokens import NatsTokens
from services.generate_gpu.domain.stream import TokenStream
from shared.attempts import MemoryAttempts

pytestmark = pytest.mark.servers

PIECES = 25_000
PIECE = "word " * 800  # 100 MB in all: more than the server and the sockets hold back for a reader


async def test_a_reader_that_stands_still_is_cut_off_and_the_stream_goes_on(core: Core) -> None:
    place = subjects.tokens(core.tenant, "j1", 0)
    heard: list[int] = []

    async def read(message: Msg) -> None:
        heard.append(msgspec.json.decode(message.data, type=TokenDelta).index)

    present = await nats.connect(core.url)
    await present.subscribe(place, cb=read)
    await present.flush()
    host, port = "127.0.0.1", int(core.url.rpartition(":")[2])
    standing, writer = await asyncio.open_connection(host, port, limit=1024)  # never read from until the end
    writer.write(b'CONNECT {"verbose":false}\r\nSUB tokens.> 1\r\nPING\r\n')
    await writer.drain()

    stream = TokenStream(NatsTokens(core.bus.nc), place, partial(MemoryAttempts().begin, "t", 0))
    async with asyncio.timeout(60):
        await stream.begin()
        for _ in range(PIECES):
            await stream.send(PIECE, 1)
        await stream.close("stop")
        await core.bus.nc.flush()
    await eventually(lambda: _all(heard), seconds=60)
    assert heard == list(range(PIECES + 1))
    async with asyncio.timeout(30):  # what came before the server gave it up, then the end of the connection
        try:
            while await standing.read(1 << 20):
                pass
        except ConnectionError:
            pass
    writer.close()
    await present.close()


async def _all(heard: list[int]) -> bool:
    return len(heard) > PIECES
