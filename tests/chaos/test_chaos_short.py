"""Nothing lost, nothing doubled, in short: a few hundred items on the embedded stack while all of it is killed.

`make chaos` is the long form. PENSTOCK_TEST_SEED takes another seed than the usual one.
"""

import os

import pytest

from loadtest.chaos.outcome import Settings
from loadtest.chaos.run import run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SEED = int(os.environ.get("PENSTOCK_TEST_SEED", "7"))
KILLS = 11


async def test_every_item_arrives_once_whatever_dies() -> None:
    outcome = await run(Settings(items=300, kills=KILLS, seed=SEED, gap_s=1.0, ack_wait_s=3.0), lambda standing: None)
    verdict = outcome.verdict
    assert verdict.faults == []
    assert (verdict.arrived, verdict.lost, verdict.doubled) == (300, 0, 0)
    done = outcome.progress.done
    assert outcome.progress.kills >= KILLS - 1  # a process that is still away cannot be killed
    assert done["kill nats"] >= 1
    assert done["kill redis"] + done["redis forgets a second"] >= 1
    assert done["redis emptied"] == 1
    assert min(outcome.model.calls[n] for n in range(300)) >= 1
    assert outcome.model.sold.total() < 2 * 300  # what was paid for before a crash is not bought again
