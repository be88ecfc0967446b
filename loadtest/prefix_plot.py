"""Pictures of `bench_prefix`."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from loadtest.prefix_work import Round

mpl.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"round-robin": "#b9652f", "affinity": "#1f6f8b", "warm": "#8a8f98"}


def plot(rounds: Mapping[str, Round], chart: Round, perfect: float, folder: Path) -> None:
    """Hit rates, the spread of TTFT, and the follow-ups on one chart."""
    folder.mkdir(parents=True, exist_ok=True)
    _rounds(rounds, perfect, folder / "bench-prefix.png")
    _chart(chart, folder / "bench-prefix-chart.png")


def _rounds(rounds: Mapping[str, Round], perfect: float, file: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    two = [name for name in rounds if name != "warm"]
    left.bar(two, [rounds[name].hit_rate for name in two], color=[COLOURS[name] for name in two], width=0.5)
    left.axhline(perfect, color="black", linewidth=1, linestyle="--")
    left.annotate(f"oracle {perfect:.3f}", (0, perfect), xytext=(0, 4), textcoords="offset points", ha="center")
    left.set(title="Prompt tokens from the cache", ylabel="share", ylim=(0, 1.08))
    for name, one in rounds.items():
        waits = sorted(seen.ttft_s * 1000 for seen in one.seen)
        right.step(waits, [n / len(waits) for n in range(1, len(waits) + 1)], label=name, color=COLOURS[name])
    right.set(title="Time to first token", xlabel="ms", ylabel="share of the questions", xscale="log")
    right.legend(frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _chart(chart: Round, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    numbers = [str(n) for n in range(1, len(chart.seen) + 1)]
    axes.bar(numbers, [one.ttft_s * 1000 for one in chart.seen], color=COLOURS["affinity"], width=0.5)
    axes.set(title="Five questions on one chart of 6,000 tokens", xlabel="question", ylabel="time to first token, ms")
    figure.savefig(file, dpi=130)
    plt.close(figure)
