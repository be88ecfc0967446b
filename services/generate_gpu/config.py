"""Settings of generate: `PENSTOCK_GENERATE_…`."""

from typing import ClassVar

from shared.settings import ServiceSettings


class GenerateSettings(ServiceSettings):
    """How much at once, and for how long what was paid for is remembered."""

    service: ClassVar[str] = "generate"

    interactive_slots: int = 32  # a model behind an endpoint holds three quarters of them at most
    batch_slots: int = 16
    items_at_once: int = 16  # items of a shard that call the model at the same time
    reader_threads: int = 2  # of the extractive reader
    connections: int = 80  # to one model endpoint; batches take three quarters of them at most
    ledger_ttl_s: int = 3600  # no shard stays away for more than half of it
    prefix_slots: int = 16  # calls of models that keep prefixes, before their prompts go to other replicas
