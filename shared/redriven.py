"""What a redriven task brings takes the place of the failure that it arrived with when it was buried."""

from collections.abc import Mapping

from nats.js.api import RawStreamMsg

from contracts.subjects import EXPECT_LAST_SUBJECT_SEQUENCE, ROLLUP
from shared.bus import Bus, WrittenBefore


async def replace(bus: Bus, buried: RawStreamMsg, payload: bytes, headers: Mapping[str, str]) -> bool:
    """Write the new result over the buried one, which must still be the last on its subject. The server removes the
    old one as it stores the new one, so that nobody ever finds both. False: another delivery of the task was faster."""
    over = {EXPECT_LAST_SUBJECT_SEQUENCE: str(buried.seq), ROLLUP: "sub"}
    try:
        await bus.publish(buried.subject or "", payload, headers={**headers, **over})
    except WrittenBefore:
        return False
    return True
