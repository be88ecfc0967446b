"""Running headers, footers and page numbers: outermost lines that stand in the same place on many pages."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

from services.ingest.adapters.parsers.pdf_page import Line
from services.ingest.domain.lines import is_page_number

_BAND = 0.13  # share of a page's height at its top and bottom where they can stand
_SHARE = 0.3  # of the pages: chapters have different headers
_STEP = 4.0  # points that a line may stand higher or lower on another page
_NUMBER = re.compile(r"\d+")

Key = tuple[str, int]  # words with numbers made alike, and height


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Pages without their running lines. Peeled from outside: what stands below text is never a header."""
    lines = [line for page in pages for line in page if _in_band(line)]
    ahead = _ahead(lines, len(pages))
    running = _running(lines, max(2, round(_SHARE * len(pages))), ahead)
    return [_peeled(page, running, ahead) for page in pages]


def _ahead(lines: Sequence[Line], pages: int) -> int | None:
    """By how much page numbers are ahead of the pages; None where less than half of the pages bear one."""
    votes = Counter(ahead for ahead, _ in {(n - line.page, line.page) for line in lines for n in _numbers(line)})
    [(ahead, count)] = votes.most_common(1) or [(0, 0)]
    return ahead if count >= max(min(2, pages), (pages + 1) // 2) else None


def _running(lines: Sequence[Line], enough: int, ahead: int | None) -> dict[Key, list[int]]:
    """What repeats on enough pages: the same words, with numbers that stay the same or are the page's own.

    Where one is the page's own, two pages are enough: the header of a short chapter. The value says what each number
    is on most pages.
    """
    groups: dict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        for key in _keys(line):
            groups[key].append(line)
    running: dict[Key, list[int]] = {}
    for key, group in groups.items():
        usual = [Counter(values).most_common(1)[0][0] for values in zip(*map(_numbers, group), strict=True)]
        fitting = [line for line in group if _fits(line, usual, ahead)]
        is_paged = all(any(number - line.page == ahead for number in _numbers(line)) for line in fitting)
        if len({line.page for line in fitting}) >= (2 if is_paged else enough):
            running[key] = usual
    return running


def _fits(line: Line, usual: Sequence[int], ahead: int | None) -> bool:
    return all(n == other or n - line.page == ahead for n, other in zip(_numbers(line), usual, strict=True))


def _keys(line: Line) -> Iterator[Key]:
    """Two keys: lines that stand less than a step apart have at least one in common."""
    shape = _NUMBER.sub("#", " ".join(line.text.lower().split()))
    height = int(line.bottom // _STEP)
    yield shape, height
    yield shape, height + 1


def _numbers(line: Line) -> list[int]:
    return [int(number) for number in _NUMBER.findall(line.text)]


def _peeled(page: Sequence[Line], running: Mapping[Key, Sequence[int]], ahead: int | None) -> list[Line]:
    def runs(line: Line) -> bool:
        own = is_page_number(line.text) and (not _numbers(line) or line.page + (ahead or 0) in _numbers(line))
        return _in_band(line) and (
            own or any(key in running and _fits(line, running[key], ahead) for key in _keys(line))
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
