"""One page of a PDF as lines of text pieces with their places, in the order in which they were written."""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from msgspec import Struct

from services.ingest.domain.lines import HYPHEN

_GAP = 1.0  # a gap of this many font sizes parts two pieces: cells of a table, or columns
_HYPHENS = frozenset({0x02, 0xFFFE})  # how pdfium writes a hyphen at the end of a line
_LINE_ENDS = _HYPHENS | {0x0A, 0x0D}
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


class _Word(Struct, frozen=True):
    """Characters without white space between them; the box is that of its first and last character."""

    text: str
    first: int  # character index
    last: int
    left: float
    bottom: float
    right: float
    top: float
    size: float  # points; 0 for text that does not stand upright
    is_last: bool  # a line ends with it


def _pieces(page: pdfium.PdfTextPage) -> Iterator[Piece]:
    """Words gathered into pieces: a new one at line ends, wide gaps and jumps."""
    run: list[_Word] = []
    for word in _words(page):
        if run and (run[-1].is_last or _apart(run[-1], word)):
            yield from _piece(page, run)
            run = []
        run.append(word)
    if run:
        yield from _piece(page, run)


def _piece(page: pdfium.PdfTextPage, run: list[_Word]) -> Iterator[Piece]:
    """The piece, if there is one to be read; its size is that of most of its characters."""
    text = " ".join(word.text for word in run)
    sizes: Counter[float] = Counter()
    for word in run:
        sizes[word.size] += len(word.text)
    size = sizes.most_common(1)[0][0]
    if text.strip(HYPHEN) and size:
        yield Piece(
            text,
            left=min(word.left for word in run),
            right=max(word.right for word in run),
            bottom=min(word.bottom for word in run),
            top=max(word.top for word in run),
            size=size,
            bold=_is_bold(page, run[0].first) and _is_bold(page, run[-1].last),
        )


def _words(page: pdfium.PdfTextPage) -> Iterator[_Word]:
    chars: list[str] = []
    first = 0
    count = page.count_chars()
    for index in range(count):
        code = raw.FPDFText_GetUnicode(page, index)
        if _is_visible(code):
            first = first if chars else index
            chars.append(chr(code))
            continue
        if chars:
            end = HYPHEN if code in _HYPHENS else ""
            yield _word(page, "".join(chars) + end, first, index - 1, is_last=code in _LINE_ENDS)
            chars = []
    if chars:
        yield _word(page, "".join(chars), first, count - 1, is_last=True)


def _is_visible(code: int) -> bool:
    if code < 0x7F:
        return code > 0x20
    return not (code < 0xA1 or 0xD800 <= code < 0xE000 or code == 0xFFFE or chr(code).isspace())


def _word(page: pdfium.PdfTextPage, text: str, first: int, last: int, is_last: bool) -> _Word:
    box, end = raw.FS_RECTF(), raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(page, first, ctypes.byref(box))
    raw.FPDFText_GetLooseCharBox(page, last, ctypes.byref(end))
    left, bottom = min(box.left, end.left), min(box.bottom, end.bottom)
    right, top = max(box.right, end.right), max(box.top, end.top)
    return _Word(text, first, last, left, bottom, right, top, _size(page, first), is_last)


def _apart(before: _Word, word: _Word) -> bool:
    """Whether a word stands too far from the one before to be the next of its line."""
    gap, size = word.left - before.right, max(before.size, word.size, 1.0)
    off_line = min(before.top, word.top) - max(before.bottom, word.bottom) <= 0
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
