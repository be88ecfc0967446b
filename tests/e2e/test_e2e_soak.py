"""The soak in its short form: everybody is served while memory is watched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import SERVICES

REPOSITORY = Path(__file__).parents[2]
MUCH = 2.0
"""In half a minute caches are still filling; what has doubled by then is no cache of ours."""


@pytest.mark.timeout(240)
def test_half_a_minute_of_mixed_load_fails_nobody_and_no_process_doubles() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.soak", "--minutes", "0.5"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["failures"], min(summary["visits"].values()) > 0) == (0, True), done.stderr
    assert set(summary["visits"]) == {"ask", "stream", "batch"}
    assert set(SERVICES) <= set(summary["processes"])
    for name, process in summary["processes"].items():
        assert process["end_mb"] < MUCH * process["begin_mb"], name
