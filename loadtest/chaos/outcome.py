"""What a run is told, how it stands, and what came out of it."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.chaos.model import ChaoticModel
from loadtest.chaos.verdict import Verdict


@dataclass(frozen=True)
class Settings:
    """How large, how bad, how fast."""

    items: int = 10_000
    kills: int = 200
    seed: int = 0
    gap_s: float = 1.5  # between two faults, at least
    ack_wait_s: float = 10.0  # after which a dead worker's message is delivered again
    model_faults: float = 0.03  # share of the model's calls that go wrong
    skew: str = "generate_gpu=60,judge=-60,route=-60"  # seconds by which clocks are wrong
    stuck_s: float = 150.0  # without a new result: then the job is given up


@dataclass
class Progress:
    """How the job stands, seen from outside."""

    arrived: int = 0  # items
    kills: int = 0
    at: float = 0.0  # when `arrived` last rose; time.monotonic()
    done: Counter[str] = field(default_factory=Counter)  # faults
    waiting: list[float] = field(default_factory=list)  # moments of faults after which nothing has arrived yet
    slowest_s: float = 0.0  # from a fault until the next result

    def hit(self, name: str, kills: bool) -> None:
        self.done[name] += 1
        self.kills += kills
        self.waiting.append(time.monotonic())

    def saw(self, arrived: int) -> None:
        if arrived > self.arrived:
            self.arrived, self.at = arrived, time.monotonic()
            self.slowest_s = max([self.slowest_s, *(self.at - moment for moment in self.waiting)])
            self.waiting.clear()


@dataclass(frozen=True)
class Outcome:
    """What is printed."""

    verdict: Verdict
    progress: Progress
    model: ChaoticModel
    seconds: float  # from submission to report
    recovered_s: float  # the longest that any fault kept results from coming
    tail_s: float  # from the last fault to the report
    dead_letters: int
    reasons: dict[str, int]
    logs: dict[str, list[str]]  # what services said about faults of ours


def errors(data: Path) -> dict[str, list[str]]:
    """What each log says of faults of ours: how many, and the last three; of a traceback its last line."""
    found = {}
    for log in sorted((data / "logs").glob("*.log")):
        told: list[str] = []
        inside = False  # a traceback, which ends with the first line that is not indented
        for line in log.read_text(errors="replace").splitlines():
            if " ERROR " in line or (inside and line.strip() and not line.startswith((" ", "Traceback"))):
                told.append(line.strip())
            inside = "Traceback" in line or (inside and (not line.strip() or line.startswith(" ")))
        if told:
            found[log.stem] = [f"{len(told)} ×", *told[-3:]]
    return found
