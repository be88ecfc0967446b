"""Settings of judge: `PENSTOCK_JUDGE_…`."""

from pathlib import Path
from typing import ClassVar

from shared.settings import ServiceSettings


class JudgeSettings(ServiceSettings):
    """Where rubrics lie besides the built-in ones."""

    service: ClassVar[str] = "judge"

    batch_slots: int = 2  # it only computes: more would not be faster, but in the way of who waits
    rubrics: Path | None = None  # a folder like services/judge/rubrics; a rubric of the same name and version wins
