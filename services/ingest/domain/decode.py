"""Bytes to text. Nothing is guessed: UTF-8, a byte order mark, or what the document itself declares."""

import codecs

from shared.errors import ItemError

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decode(name: str, content: bytes, declared: str = "utf-8") -> str:
    """Text with "\\n" at line ends; raises ItemError `unreadable` that names the first byte which does not fit."""
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", declared))
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ItemError("unreadable", f"{name}: declares the charset {declared!r}, which is not known") from None
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start + len(mark)
        raise ItemError(
            "unreadable",
            f"{name}: not valid {encoding.upper()} at byte {at} (0x{content[at]:02x}); "
            "expected UTF-8, or UTF-16 with a byte order mark",
        ) from None
    if "\0" in text:
        raise ItemError("unreadable", f"{name}: NUL at character {text.index(chr(0))}; expected text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
