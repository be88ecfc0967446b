"""Pure: what a provider does in each phase of `make bench-failover`, and what its asks come to."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from loadtest.hops import percentile
from loadtest.scripted_model import Reply

WELL = Reply("A password must have at least fourteen characters.", completion_tokens=8)
RETRY_AFTER_S = 3
Expected = Literal["primary", "backup", "degraded"]


@dataclass(frozen=True)
class Phase:
    """`large` and `spare` are what the two models say, in turn; `rung` is the one that should answer."""

    name: str
    large: Sequence[Reply]
    spare: Sequence[Reply] = (WELL,)
    rung: Expected = "primary"
    weight: float = 1.0  # how long it lasts beside the others


CALM = Phase("calm", [WELL], weight=1.5)  # so that the primary is back before the next fault
FAULTS = (
    Phase("outage", [Reply("down", status=503), Reply(fault="reset")], rung="backup"),
    Phase(
        "rate limit",
        [Reply("slow down", status=429, headers={"Retry-After": str(RETRY_AFTER_S)})],
        rung="backup",
    ),
    Phase("slowness", [Reply(WELL.text, delay_s=8)], rung="backup"),
    Phase("hangs", [Reply(fault="hang")], rung="backup"),
    Phase("blackout", [Reply("down", status=503)], [Reply(fault="reset")], rung="degraded"),
)
PHASES = (CALM, *(phase for fault in FAULTS for phase in (fault, CALM)))


@dataclass(frozen=True)
class Asked:
    """One ask. Times: seconds since the bench began; `rung` is empty where there was no answer, with the reason."""

    phase: int
    sent: float
    replied: float | None
    rung: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """What a phase came to. `after_s`: from its start to the first answer of the rung that should give them."""

    name: str
    asks: int
    rungs: dict[str, int]
    failed: int
    lost: int
    after_s: float | None
    p50_ms: float
    p95_ms: float


def phase_at(share: float, phases: Sequence[Phase] = PHASES) -> int:
    """The phase in which the ask is sent that stands at this share of all, 0…1."""
    ends = list(accumulate(phase.weight for phase in phases))
    return min(bisect_right(ends, share * ends[-1]), len(phases) - 1)


def lines(asked: Sequence[Asked], starts: Sequence[float], phases: Sequence[Phase] = PHASES) -> list[Line]:
    """One line a phase; an ask belongs to the phase in which it was sent."""
    return [
        _line(phase, [one for one in asked if one.phase == n], asked, start)
        for n, (phase, start) in enumerate(zip(phases, starts, strict=True))
    ]


def _line(phase: Phase, own: Sequence[Asked], everybody: Sequence[Asked], start: float) -> Line:
    took = [(one.replied - one.sent) * 1000 for one in own if one.replied is not None]
    heard = [one.replied for one in everybody if one.rung == phase.rung and one.replied and one.sent >= start]
    return Line(
        name=phase.name,
        asks=len(own),
        rungs=dict(Counter(one.rung for one in own if one.rung)),
        failed=sum(one.replied is not None and not one.rung for one in own),
        lost=sum(one.replied is None for one in own),
        after_s=round(min(heard) - start, 3) if heard else None,
        p50_ms=round(percentile(took, 0.5), 1) if took else 0.0,
        p95_ms=round(percentile(took, 0.95), 1) if took else 0.0,
    )


def summary(asked: Sequence[Asked], found: Sequence[Line]) -> dict[str, object]:
    """The line of JSON. An ask is answered by any rung; times are seconds."""
    answered = sum(bool(one.rung) for one in asked)
    faults = [(line, back) for line, back in pairwise(found) if line.name != CALM.name]
    return {
        "asks": len(asked),
        "availability": round(answered / len(asked), 5),
        "lost": sum(one.replied is None for one in asked),
        "failed": sum(one.replied is not None and not one.rung for one in asked),
        "rungs": dict(Counter(one.rung for one in asked if one.rung)),
        "reroute_s": {line.name: line.after_s for line, _ in faults},
        "back_s": {line.name: back.after_s for line, back in faults},
        "reasons": dict(Counter(one.reason for one in asked if one.reason).most_common(5)),
    }
