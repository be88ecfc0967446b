"""What a redriven task brings takes the place of the failure that it arrived with when it was buried."""

from collections.abc import Mapping

from nats.js.api import RawStreamMsg

from contracts.subjects import BURIED, EXPECT_LAST_SUBJECT_SEQUENCE, ROLLUP, Stream
from shared.bus import Bus, WrittenBefore, headers_of


async def replace(bus: Bus, buried: RawStreamMsg, payload: bytes, headers: Mapping[str, str]) -> bool:
    """Write the new result over the buried one, which must still be the last on its subject. The server removes the
    old one as it stores the new one, so that nobody ever finds both. False: another delivery of the task was faster."""
    over = {EXPECT_LAST_SUBJECT_SEQUENCE: str(buried.seq), ROLLUP: "sub"}
    try:
        await bus.publish(buried.subject or "", payload, headers={**headers, **over})
    except WrittenBefore:
        return False
    return True


async def seal(bus: Bus, stream: Stream, subject: str) -> None:
    """Nothing takes the place of what was buried here any more: it is written over itself, as an ordinary result. Who
    has looked at it before and is about to replace it finds another message; who has done so already is left alone."""
    written = await bus.patiently(lambda: bus.js.get_last_msg(stream.name, subject))
    kept = {name: value for name, value in headers_of(written).items() if not name.startswith("Nats-")}
    if kept.pop(BURIED, None) is not None:
        await replace(bus, written, written.data or b"", kept)
