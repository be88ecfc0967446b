"""One page of a PDF as lines of text pieces with their places, in the order in which they were written."""

import ctypes
import re
from collections.abc import Iterator

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from msgspec import Struct

from services.ingest.domain.lines import HYPHEN

_GAP = 1.0  # a gap of this many font sizes parts two pieces: cells of a table, or columns
_HYPHENS = frozenset({0x02, 0xFFFE})  # how pdfium writes a hyphen at the end of a line
_BOLD = 600
_BOLD_NAME = re.compile(r"bold|black|heavy|semibold|demi", re.I)


class Piece(Struct, frozen=True):
    """Characters on one line without a wide gap. Points, from the lower left corner of the page."""

    text: str
    left: float
    right: float
    bottom: float
    top: float
    size: float
    bold: bool

    @property
    def middle(self) -> float:
        return (self.bottom + self.top) / 2


class Line(Struct, frozen=True):
    """Pieces on one base line, from left to right."""

    pieces: list[Piece]
    page: int
    height: float  # of the page

    @property
    def text(self) -> str:
        return " ".join(piece.text for piece in self.pieces)

    @property
    def left(self) -> float:
        return self.pieces[0].left

    @property
    def right(self) -> float:
        return self.pieces[-1].right

    @property
    def top(self) -> float:
        return max(piece.top for piece in self.pieces)

    @property
    def bottom(self) -> float:
        return min(piece.bottom for piece in self.pieces)

    @property
    def size(self) -> float:
        return max(piece.size for piece in self.pieces)

    @property
    def bold(self) -> bool:
        return all(piece.bold for piece in self.pieces)


def read_lines(page: pdfium.PdfPage, number: int) -> list[Line]:
    """The lines of a page; text that is turned on its side is left out."""
    text = page.get_textpage()
    try:
        pieces = list(_pieces(text))
    finally:
        text.close()
    lines: list[list[Piece]] = []
    for piece in pieces:
        if lines and _same_line(lines[-1][-1], piece):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    height = page.get_height()
    return [Line(pieces, number, height) for pieces in lines]


def _same_line(before: Piece, piece: Piece) -> bool:
    overlap = min(before.top, piece.top) - max(before.bottom, piece.bottom)
    return overlap > 0.6 * min(before.top - before.bottom, piece.top - piece.bottom) and piece.left >= before.right - 1


class _Run:
    """A piece while it grows."""

    def __init__(self) -> None:
        self.chars: list[str] = []
        self.box = [0.0, 0.0, 0.0, 0.0]  # left, bottom, right, top
        self.size = 0.0  # points; 0 for text that does not stand upright
        self.first = self.last = 0  # character indexes

    def add(self, char: str, box: tuple[float, float, float, float]) -> None:
        if not self.chars:
            self.box = list(box)
        self.box = [
            min(self.box[0], box[0]),
            min(self.box[1], box[1]),
            max(self.box[2], box[2]),
            max(self.box[3], box[3]),
        ]
        self.chars.append(char)

    def piece(self, page: pdfium.PdfTextPage) -> Iterator[Piece]:
        """The piece, if there is one to be read."""
        text = " ".join("".join(self.chars).split())
        if text.strip(HYPHEN) and self.size:
            left, bottom, right, top = self.box
            bold = _is_bold(page, self.first) and _is_bold(page, self.last)
            yield Piece(text, left, right, bottom, top, self.size, bold)


def _pieces(text: pdfium.PdfTextPage) -> Iterator[Piece]:
    """Characters gathered into pieces: a new one at line ends, wide gaps and jumps."""
    run = _Run()
    box = raw.FS_RECTF()
    for index in range(text.count_chars()):
        code = raw.FPDFText_GetUnicode(text, index)
        if code in _HYPHENS:
            run.chars.append(HYPHEN)
        is_break = code in {0x0A, 0x0D} or code in _HYPHENS
        char = chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code < 0x110000 else ""
        if not is_break and char.strip():
            raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(box))
            place = (box.left, box.bottom, box.right, box.top)
            is_break = bool(run.chars) and _apart(run, place)
        if is_break:
            yield from run.piece(text)
            run = _Run()
        if char.strip() and code not in _HYPHENS:
            if not run.chars:
                run.first, run.size = index, _size(text, index)
            run.add(char, place)
            run.last = index
        elif char and run.chars and not is_break:
            run.chars.append(" ")
    yield from run.piece(text)


def _apart(run: _Run, place: tuple[float, float, float, float]) -> bool:
    """Whether a character stands too far from the run to be its next one."""
    gap = place[0] - run.box[2]
    size = max(run.size, 1.0)
    off_line = min(run.box[3], place[3]) - max(run.box[1], place[1]) <= 0
    return gap > _GAP * size or gap < -2 * size or off_line


def _size(text: pdfium.PdfTextPage, index: int) -> float:
    """Font size in points as it is shown; 0 where the text is turned."""
    matrix = raw.FS_MATRIX()
    if not raw.FPDFText_GetMatrix(text, index, ctypes.byref(matrix)):
        return 0.0
    is_turned = abs(matrix.b) > 0.1 * abs(matrix.a)
    return 0.0 if is_turned else round(float(raw.FPDFText_GetFontSize(text, index) * abs(matrix.d)), 1)


def _is_bold(text: pdfium.PdfTextPage, index: int) -> bool:
    if raw.FPDFText_GetFontWeight(text, index) >= _BOLD:
        return True
    flags = ctypes.c_int()
    buffer = ctypes.create_string_buffer(128)
    raw.FPDFText_GetFontInfo(text, index, buffer, len(buffer), ctypes.byref(flags))
    return bool(_BOLD_NAME.search(buffer.value.decode("utf-8", "ignore")))
