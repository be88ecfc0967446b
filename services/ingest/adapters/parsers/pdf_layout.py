"""Running headers, footers and page numbers: outermost lines that stand in the same place on many pages."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile

from services.ingest.adapters.parsers.pdf_page import Line
from services.ingest.domain.lines import is_page_number

_BAND = 0.13  # share of a page's height at its top and bottom where they can stand
_SHARE = 0.3  # of the pages: chapters have different headers
_STEP = 4.0  # points that a line may stand higher or lower on another page
_NUMBER = re.compile(r"\d+")

Key = tuple[str, int]  # words with numbers made alike, and height
Numbers = list[tuple[int, int]]  # of each number: the value that it has on most pages, and the one it counts up from


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Pages without their running lines. Peeled from outside: what stands below text is never a header."""
    running = _running([line for page in pages for line in page if _in_band(line)], max(2, round(_SHARE * len(pages))))
    return [_peeled(page, running, is_only=len(pages) == 1) for page in pages]


def _running(lines: Sequence[Line], enough: int) -> dict[Key, Numbers]:
    """What repeats on enough pages: the same words, with numbers that stay the same or count with the pages."""
    groups: dict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        for key in _keys(line):
            groups[key].append(line)
    running: dict[Key, Numbers] = {}
    for key, group in groups.items():
        numbers = [
            (_commonest(values), _commonest([value - line.page for value, line in zip(values, group, strict=True)]))
            for values in zip(*(_numbers(line) for line in group), strict=True)
        ]
        if len({line.page for line in group if _fits(line, numbers)}) >= enough:
            running[key] = numbers
    return running


def _commonest(values: Sequence[int]) -> int:
    return Counter(values).most_common(1)[0][0]


def _fits(line: Line, numbers: Numbers) -> bool:
    return all(
        value == same or value - line.page == first
        for value, (same, first) in zip(_numbers(line), numbers, strict=True)
    )


def _keys(line: Line) -> Iterator[Key]:
    """Two keys: lines that stand less than a step apart have at least one in common."""
    shape = _NUMBER.sub("#", " ".join(line.text.lower().split()))
    height = int(line.bottom // _STEP)
    yield shape, height
    yield shape, height + 1


def _numbers(line: Line) -> list[int]:
    return [int(number) for number in _NUMBER.findall(line.text)]


def _peeled(page: Sequence[Line], running: dict[Key, Numbers], is_only: bool) -> list[Line]:
    def runs(line: Line) -> bool:
        is_number = is_page_number(line.text) and (is_only or not _NUMBER.search(line.text))
        return _in_band(line) and (
            is_number or any(key in running and _fits(line, running[key]) for key in _keys(line))
        )

    by_height = sorted(page, key=lambda line: -line.top)
    top = list(takewhile(lambda line: _is_top(line) and runs(line), by_height))
    bottom = list(takewhile(lambda line: not _is_top(line) and runs(line), reversed(by_height)))
    peeled = {id(line) for line in (*top, *bottom)}
    return [line for line in page if id(line) not in peeled]


def _in_band(line: Line) -> bool:
    return line.bottom > (1 - _BAND) * line.height or line.top < _BAND * line.height


def _is_top(line: Line) -> bool:
    return line.top > line.height / 2
