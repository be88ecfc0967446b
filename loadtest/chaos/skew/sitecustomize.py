"""Sets the clock of some services wrong: Python loads this file at start where its folder is on PYTHONPATH.

PENSTOCK_TEST_SKEW would not get through to the services, so it is called CHAOS_SKEW: `route=60,generate=-60`, seconds
by the name of a service's folder.
"""

import os
import sys
import time


def _skew() -> float:
    module = next((word for word in sys.orig_argv if word.startswith("services.")), "")
    for pair in filter(None, os.environ.get("CHAOS_SKEW", "").split(",")):
        service, seconds = pair.split("=")
        if module.startswith(f"services.{service}."):
            return float(seconds)
    return 0.0


_seconds = _skew()
if _seconds:
    _right = time.time
    time.time = lambda: _right() + _seconds
