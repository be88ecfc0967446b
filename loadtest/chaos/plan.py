"""What goes wrong, and in which order: drawn from a seed, so that a run can be repeated."""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["kill", "kill nats", "kill redis", "redis forgets a second", "redis emptied", "stall"]
ModelFault = Literal["hang", "reset", "429", "500", "half", "garbage"]

IN_THE_WAY = ("retrieve", "rerank", "route", "generate", "judge")
ASIDE = ("ingest", "memory")
MODEL_FAULTS: tuple[ModelFault, ...] = ("hang", "reset", "429", "500", "half", "garbage")


@dataclass(frozen=True)
class Fault:
    """One thing that happens to the stack. `service` is set for `kill` and `stall`."""

    kind: Kind
    service: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.service}".strip()

    @property
    def kills(self) -> bool:
        """Whether a process gets kill -9."""
        return self.kind in ("kill", "kill nats", "kill redis", "redis forgets a second")


def faults(seed: int, kills: int) -> list[Fault]:
    """So many kills, and between them what kills nobody. Each kind comes at least once, as far as `kills` allows."""
    rng = random.Random(seed)
    sure = [Fault("kill nats"), Fault("kill redis"), Fault("redis forgets a second")]
    sure += [Fault("kill", service) for service in (*IN_THE_WAY, *ASIDE)]
    drawn = [_kill(rng) for _ in range(kills - len(sure))]
    killing = [*sure[:kills], *drawn]
    others = [Fault("redis emptied") for _ in range(max(1, kills // 40))]
    others += [Fault("stall", rng.choice(IN_THE_WAY)) for _ in range(max(1, kills // 40))]
    mixed = killing + others
    rng.shuffle(mixed)
    return mixed


def _kill(rng: random.Random) -> Fault:
    kinds: tuple[Kind, ...] = ("kill", "kill nats", "kill redis", "redis forgets a second")
    kind = rng.choices(kinds, (82, 7, 6, 5))[0]
    if kind != "kill":
        return Fault(kind)
    return Fault("kill", rng.choices((*IN_THE_WAY, *ASIDE), (3, 3, 4, 4, 3, 1, 1))[0])


@dataclass
class ModelFaults:
    """Draws what goes wrong with a call of the model: None most of the time."""

    rng: random.Random
    rate: float

    def next(self) -> ModelFault | None:
        return self.rng.choice(MODEL_FAULTS) if self.rng.random() < self.rate else None
