"""Pure: whether the memory of a process grows, from samples of it."""

import statistics
from collections.abc import Sequence

from msgspec import Struct

BLOCKS = 10
WARM_UP = 0.2
"""The share of the time that does not count: caches fill, arenas find their size."""
T_95 = 2.306
"""Student's t for BLOCKS - 2 degrees of freedom: 95 % of a two-sided interval."""
CLEAR_MB_H, CLEAR_MB, CLEAR_SHARE = 5.0, 4.0, 0.02


class Slope(Struct, frozen=True):
    """Megabytes, and megabytes an hour with the 95 % interval of the slope."""

    begin_mb: float
    end_mb: float
    mb_per_h: float
    low: float
    high: float
    grows: bool


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """Of samples (seconds, megabytes), at least 20 of them, evenly spread.

    The medians of ten blocks of time are fitted by a line, so that single peaks do not count. It grows clearly if even
    the low end of the interval is above 5 MB/h, and if at that rate the time that was looked at brought more than 4 MB
    and more than 2 %: in a short run the smallest step would be many megabytes an hour.
    """
    kept = samples[int(len(samples) * WARM_UP) :]
    size = len(kept) / BLOCKS
    blocks = [kept[int(n * size) : int((n + 1) * size)] for n in range(BLOCKS)]
    hours = [statistics.fmean(at for at, _ in block) / 3600 for block in blocks]
    levels = [statistics.median(mb for _, mb in block) for block in blocks]
    line = statistics.linear_regression(hours, levels)
    left = sum((mb - line.intercept - line.slope * at) ** 2 for at, mb in zip(hours, levels, strict=True))
    mean = statistics.fmean(hours)
    error = (left / (BLOCKS - 2) / sum((at - mean) ** 2 for at in hours)) ** 0.5
    low, high = line.slope - T_95 * error, line.slope + T_95 * error
    brought = low * (hours[-1] - hours[0])
    grows = low > CLEAR_MB_H and brought > max(CLEAR_MB, CLEAR_SHARE * levels[0])
    return Slope(round(levels[0], 1), round(levels[-1], 1), round(line.slope, 1), round(low, 1), round(high, 1), grows)
