"""PDF, through pypdfium2: opens it, reads its pages, and says why it cannot."""

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from services.ingest.adapters.parsers.pdf_blocks import blocks_of
from services.ingest.adapters.parsers.pdf_layout import without_running_lines
from services.ingest.adapters.parsers.pdf_page import Line, read_lines
from services.ingest.domain.blocks import Reading
from shared.errors import ItemError

_MOST_PAGES = 5000
_GENERIC_TITLES = ("microsoft word", "untitled", "powerpoint", "document")


def parse(name: str, content: bytes) -> Reading:
    """Paragraphs, headings and table rows with their pages; raises ItemError `unreadable` or `too_large`."""
    document = _open(name, content)
    try:
        if len(document) > _MOST_PAGES:
            raise ItemError("too_large", f"{name}: {len(document)} pages; at most {_MOST_PAGES} are read")
        pages = [_read(name, document, index) for index in range(len(document))]
        if not any(pages):
            raise ItemError("unreadable", _why_empty(name, document))
        title = document.get_metadata_value("Title").strip()
    finally:
        document.close()
    reading = blocks_of(without_running_lines(pages))
    is_generic = title.lower().startswith(_GENERIC_TITLES)
    return Reading(blocks=reading.blocks, title=reading.title if is_generic or not title else title, pages=len(pages))


def _open(name: str, content: bytes) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise ItemError(
                "unreadable", f"{name}: the PDF is encrypted; expected one that opens without a password"
            ) from None
        raise ItemError("unreadable", f"{name}: a corrupt PDF, its structure cannot be read") from None


def _read(name: str, document: pdfium.PdfDocument, index: int) -> list[Line]:
    try:
        page = document[index]
        try:
            return read_lines(page, index + 1)
        finally:
            page.close()
    except pdfium.PdfiumError:
        raise ItemError("unreadable", f"{name}: a corrupt PDF, page {index + 1} cannot be read") from None


def _why_empty(name: str, document: pdfium.PdfDocument) -> str:
    has_pictures = any(next(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]), None) for page in document)
    if has_pictures:
        return f"{name}: the PDF has no text, only pictures (a scan); expected one with a text layer: run OCR first"
    return f"{name}: the PDF is empty, {len(document)} pages without text"
