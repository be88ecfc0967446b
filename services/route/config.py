"""Settings of route: `PENSTOCK_ROUTE_…`."""

from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class RouteSettings(ServiceSettings):
    """How jobs are opened."""

    service: ClassVar[str] = "route"

    interactive_slots: int = 32
    batch_slots: int = 32
    open_slots: int = Field(default=16, ge=1)  # jobs that are opened at the same time
    shard_size: int = Field(default=15, ge=1, le=1000)  # items in a task
    interactive_deadline_s: float = Field(default=300.0, gt=0)  # for jobs that name none
    batch_deadline_s: float = Field(default=24 * 3600.0, gt=0)
