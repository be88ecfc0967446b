"""What a redriven task brings takes the place of the failure that it arrived with when it was buried."""

from collections.abc import Mapping

from nats.js.api import RawStreamMsg

from contracts.subjects import EXPECT_LAST_SUBJECT_SEQUENCE, Stream
from shared.bus import Bus, WrittenBefore, answered


async def replace(bus: Bus, stream: Stream, buried: RawStreamMsg, payload: bytes, headers: Mapping[str, str]) -> None:
    """Write the new result over the buried one, which must still be the last on its subject."""
    subject = buried.subject or ""
    try:
        await bus.publish(subject, payload, headers={**headers, EXPECT_LAST_SUBJECT_SEQUENCE: str(buried.seq)})
    except WrittenBefore:
        return  # another delivery of the same task was faster
    await answered(bus.js.purge_stream(stream.name, subject=subject, keep=1))
