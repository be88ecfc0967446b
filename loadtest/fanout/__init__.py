"""The systems of the fan-out bench: each takes N no-op items from submission to all results."""
