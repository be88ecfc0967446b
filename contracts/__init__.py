"""What travels between processes: Structs, subjects, streams, and an example of every message.

This package imports msgspec alone, so that anything may import it.
"""
