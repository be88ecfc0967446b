"""Benches: what Penstock does per second and per question, beside others on the same machine."""
