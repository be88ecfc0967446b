"""Which format a document is in: its suffix says so, its content has to agree."""

import re
from typing import Literal

from shared.errors import ItemError

Format = Literal["pdf", "html", "markdown", "docx", "text", "csv"]

_SUFFIXES: dict[str, Format] = {
    "pdf": "pdf",
    "html": "html",
    "htm": "html",
    "xhtml": "html",
    "md": "markdown",
    "markdown": "markdown",
    "docx": "docx",
    "txt": "text",
    "text": "text",
    "csv": "csv",
    "tsv": "csv",
}
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,8})$")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office file (OLE)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{\\rtf", "an RTF document"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EXPECTED = {"pdf": "a PDF", "docx": "a zip archive"}


def detect(name: str, content: bytes) -> Format:
    """The format of a document; raises ItemError `unreadable` where suffix and content do not fit together."""
    found = _look(content)
    match = _SUFFIX.search(name)
    if match is None:
        return _without_suffix(name, found)
    known = _SUFFIXES.get(match[1].lower())
    if known is None:
        raise ItemError("unreadable", f"{name}: unknown format; expected one of {', '.join(sorted(_SUFFIXES))}")
    if known == "pdf" and b"%PDF-" in content[:1024]:  # some writers put a few bytes before it
        return known
    if found != _EXPECTED.get(known, "text"):
        raise ItemError("unreadable", f"{name}: expected {_describe(known)}, but the content is {found}")
    return known


def detect_text(name: str) -> Format:
    """The format of a document whose text was given; raises ItemError `unreadable` for formats that are not text."""
    match = _SUFFIX.search(name)
    known = _SUFFIXES.get(match[1].lower(), "text") if match else "text"
    if known in _EXPECTED:
        raise ItemError(
            "unreadable", f"{name}: text was given where a {known.upper()} needs its bytes (document.claim)"
        )
    return known


def _without_suffix(name: str, found: str) -> Format:
    if found == "a PDF":
        return "pdf"
    if found == "text":
        return "text"
    raise ItemError("unreadable", f"{name}: unknown format, the content is {found}; expected text or a PDF")


def _look(content: bytes) -> str:
    """What the first bytes are, in words; "text" where nothing speaks against it."""
    for magic, words in _MAGIC:
        if content.startswith(magic):
            return words
    if content.startswith(_UTF16):
        return "text"
    return "binary data (it holds NUL bytes)" if b"\0" in content[:4096] else "text"


def _describe(known: Format) -> str:
    return {
        "pdf": "a PDF (it begins with %PDF-)",
        "docx": "a DOCX (a zip archive)",
        "csv": "CSV text",
        "html": "HTML text",
        "markdown": "Markdown text",
        "text": "plain text",
    }[known]
