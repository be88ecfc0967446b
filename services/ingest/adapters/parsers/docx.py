"""DOCX, through python-docx; the archive is looked through before the library sees it."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO

import docx
from docx.document import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml.etree import XMLSyntaxError  # type: ignore[import-untyped]  # no stubs published

from services.ingest.adapters.parsers.docx_numbers import Numbering
from services.ingest.domain.blocks import Block, Reading, table_row
from shared.errors import ItemError

_MAIN = "word/document.xml"
_HEADING = re.compile(r"^heading (\d)$", re.I)
_MOST_FILES = 10_000
_RATIO = 200  # compressed text of real documents stays far below
_SMALL = 1 << 20  # what is expanded to less than this may have any ratio
_READ = 1 << 16


def parse(name: str, content: bytes, most_expanded: int) -> Reading:
    """Headings by style, automatic clause numbers, tables as rows; raises ItemError `unreadable` or `too_large`."""
    _check_archive(name, content, most_expanded)
    try:
        document = docx.Document(BytesIO(content))
        blocks = list(_blocks(document))
        title = document.core_properties.title
    except (PackageNotFoundError, XMLSyntaxError, KeyError, ValueError, AttributeError) as error:
        raise ItemError("unreadable", f"{name}: a damaged DOCX ({type(error).__name__}: {str(error)[:120]})") from None
    headings = [block.text for block in blocks if block.kind == "heading" and block.level == 1]
    return Reading(blocks=blocks, title=title or next(iter(headings), ""))


def _check_archive(name: str, content: bytes, most: int) -> None:
    """Refuse archives that are no DOCX or would fill the memory, by what they claim and by what they really hold."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            files = archive.infolist()
            if len(files) > _MOST_FILES:
                raise ItemError("too_large", f"{name}: {len(files)} files in it; expected at most {_MOST_FILES}")
            if _MAIN not in archive.namelist():
                raise ItemError("unreadable", f"{name}: a zip archive without {_MAIN}; expected a DOCX")
            _check_claimed(name, files, most)
            _check_real(name, archive, files, most)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ItemError("unreadable", f"{name}: a damaged DOCX ({str(error)[:120]})") from None


def _check_claimed(name: str, files: list[zipfile.ZipInfo], most: int) -> None:
    total = sum(file.file_size for file in files)
    if total > most:
        raise ItemError("too_large", f"{name}: expands to {total:,} bytes; at most {most:,} are read")
    for file in files:
        if file.file_size > max(_SMALL, _RATIO * file.compress_size):
            raise ItemError(
                "too_large", f"{name}: {file.filename} expands more than {_RATIO}-fold, as a zip bomb does; not read"
            )


def _check_real(name: str, archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], most: int) -> None:
    left = most
    for file in files:
        with archive.open(file) as stream:
            while piece := stream.read(_READ):
                left -= len(piece)
                if left < 0:
                    raise ItemError("too_large", f"{name}: expands to more than {most:,} bytes; not read")


def _blocks(document: Document) -> Iterator[Block]:
    numbering = Numbering(document)
    for part in document.iter_inner_content():
        yield from _table(part) if isinstance(part, Table) else _paragraph(part, numbering)


def _paragraph(paragraph: Paragraph, numbering: Numbering) -> Iterator[Block]:
    text = " ".join(paragraph.text.replace("\u00ad", "").split())
    if not text:
        return
    style = (paragraph.style.name if paragraph.style is not None else "") or ""
    number = numbering.next(paragraph)
    text = f"{number} {text}" if number else text
    if match := _HEADING.match(style):
        yield Block(text, "heading", int(match[1]))
    else:
        yield Block(text, "heading", 1) if style == "Title" else Block(text)


def _table(table: Table) -> Iterator[Block]:
    """The first row names the columns; cells that span several are read once."""
    header: list[str] = []
    for count, row in enumerate(table.rows):
        cells = [" ".join(cell.text.split()) for cell in row.cells]
        if count == 0 and len(table.rows) > 1 and len(set(cells)) > 1:
            header = cells
        elif text := cells[0] if len(set(cells)) == 1 else table_row(header, cells):
            yield Block(text, "row")
