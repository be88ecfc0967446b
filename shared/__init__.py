"""What every service stands on: bus, worker loop, groups, claims, settings, telemetry."""

import os

# Before numpy is imported anywhere: our matrices are small, and two threads that spin on them cost more than they win
# where nine processes share a machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# onnxruntime reports its use to its maker, unless it is told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

VERSION = "0.1.0"
