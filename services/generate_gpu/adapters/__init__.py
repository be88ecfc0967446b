"""Redis and NATS behind the Protocols of `domain/`."""
