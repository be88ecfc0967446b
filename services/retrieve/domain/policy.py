"""Which kept answers a job may get."""

from collections.abc import Mapping
from typing import Literal

from contracts.job import Options

Mode = Literal["off", "exact", "semantic"]


def mode_for(tenant: str, pattern: str, options: Options, usual: Mode, special: Mapping[str, Mode]) -> Mode:
    """What is set for `<tenant>/<pattern>`, else for the tenant, else what is usual, unless the job says otherwise.

    What is switched off in the settings stays off, and the turns of a session belong to it alone.
    """
    allowed = special.get(f"{tenant}/{pattern}", special.get(tenant, usual))
    if allowed == "off" or options.session:
        return "off"
    return options.cache or allowed
