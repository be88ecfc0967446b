"""Settings of route: `PENSTOCK_ROUTE_…`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.route.domain.pace import Cut
from shared.settings import ServiceSettings


class RouteSettings(ServiceSettings):
    """How jobs are opened."""

    service: ClassVar[str] = "route"

    interactive_slots: int = 32
    batch_slots: int = 32
    open_slots: int = Field(default=16, ge=1)  # jobs that are opened at the same time
    shard_size: int = Field(default=15, ge=1, le=1000)  # items in a task, at least …
    shard_most: int = Field(default=500, ge=1, le=5000)  # … and at most …
    shard_seconds: float = Field(default=2.0, gt=0)  # … as many as take about so long …
    shard_bytes: int = Field(default=256 * 1024, ge=1)  # … and no more input than this
    window_shards: int = Field(default=128, ge=2)  # shards of a large job that are on their way at the same time
    interactive_deadline_s: float = Field(default=300.0, gt=0)  # for jobs that name none
    batch_deadline_s: float = Field(default=24 * 3600.0, gt=0)

    prompts: Path | None = None  # a folder of prompts in place of the built-in one

    @property
    def cut(self) -> Cut:
        return Cut(self.shard_size, max(self.shard_size, self.shard_most), self.shard_seconds, self.shard_bytes)
