"""The embedded stack: NATS, Redis and the services as processes of this machine, without Docker.

`up(data)` starts it or finds it running, `down(data)` stops it, `status(data)` looks. Everything it writes lies in the
data folder; two stacks with different data folders do not meet.
"""

from client.stack.info import ProcessInfo, StackInfo, find_data, load
from client.stack.lifecycle import down, status, up

__all__ = ["ProcessInfo", "StackInfo", "down", "find_data", "load", "status", "up"]
