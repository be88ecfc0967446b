"""Running headers, footers and page numbers: lines that stand in the same place on many pages."""

from collections import Counter
from collections.abc import Sequence

from services.ingest.adapters.parsers.pdf_page import Line
from services.ingest.domain.lines import is_page_number, shape

_BAND = 0.13  # share of a page's height at its top and bottom where they can stand
_EDGE_LINES = 3


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Pages without the lines that repeat at their edges; numbers in them may differ from page to page."""
    counts = Counter(key for page in pages for key in {_key(line) for line in _edges(page)})
    enough = max(2, round(0.3 * len(pages)))
    running = {key for key, count in counts.items() if count >= enough}
    return [_kept(page, running) for page in pages]


def _kept(page: Sequence[Line], running: set[tuple[str, bool]]) -> list[Line]:
    edges = {id(line) for line in _edges(page)}
    return [line for line in page if id(line) not in edges or not (_key(line) in running or is_page_number(line.text))]


def _edges(page: Sequence[Line]) -> list[Line]:
    """The outermost lines of a page, where these stand within the bands."""
    by_height = sorted(page, key=lambda line: -line.top)
    top = [line for line in by_height[:_EDGE_LINES] if line.bottom > (1 - _BAND) * line.height]
    bottom = [line for line in by_height[-_EDGE_LINES:] if line.top < _BAND * line.height]
    return [*top, *bottom]


def _key(line: Line) -> tuple[str, bool]:
    return shape(line.text), line.top > line.height / 2
