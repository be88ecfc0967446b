"""Which parser reads which format."""

from services.ingest.adapters.limits import Limits
from services.ingest.domain.blocks import Reading
from services.ingest.domain.decode import decode
from services.ingest.domain.formats import Format, detect, detect_text
from shared.errors import ItemError


def read(name: str, content: bytes, is_text: bool, limits: Limits) -> Reading:
    """A document from its bytes; raises ItemError `unreadable` or `too_large`: the file and what was expected."""
    if len(content) > limits.document:
        raise ItemError("too_large", f"{name}: {len(content):,} bytes; at most {limits.document:,} are read")
    if not content.strip():
        raise ItemError("unreadable", f"{name}: the document is empty")
    known = detect_text(name) if is_text else detect(name, content)
    reading = _parse(known, name, content, limits)
    if not reading.blocks:
        raise ItemError("unreadable", f"{name}: no text in it")
    return reading


def _parse(known: Format, name: str, content: bytes, limits: Limits) -> Reading:
    # Parsers are imported when they are needed: a child that reads Markdown does not load the PDF library.
    from services.ingest.adapters.parsers import csv, docx, html, markdown, pdf, text

    match known:
        case "pdf":
            return pdf.parse(name, content)
        case "docx":
            return docx.parse(name, content, limits.expanded)
        case "html":
            return html.parse(name, decode(name, content, html.declared_charset(content)))
        case "markdown":
            return markdown.parse(decode(name, content))
        case "csv":
            return csv.parse(name, decode(name, content))
        case "text":
            return text.parse(decode(name, content))
