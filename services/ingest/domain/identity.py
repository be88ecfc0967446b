"""How a document is named, and how one revision of it is told from another."""

import hashlib
import re
import unicodedata

from contracts.item import DocumentRef
from contracts.subjects import TOKEN
from services.ingest.domain.version import VERSION
from shared.errors import ItemError

_LONGEST = 64
_HASH = 8


def document_id(ref: DocumentRef) -> str:
    """The id that was given, or a slug of the name; raises ItemError `malformed` for one that no subject can hold."""
    if not ref.id:
        return _slug(ref.name)
    if not TOKEN.match(ref.id):
        raise ItemError("malformed", f"document.id: expected 1–64 letters, digits, - and _, got {ref.id[:80]!r}")
    return ref.id


def _slug(name: str) -> str:
    """ "HMO-483 Benefits 2025.pdf" → "hmo-483-benefits-2025-pdf"; what is lost on the way is told apart by a hash."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    lost = not unicodedata.normalize("NFC", name).isascii() or len(slug) > _LONGEST
    if not lost and slug:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{slug[: _LONGEST - _HASH - 1].rstrip('-')}-{digest}".lstrip("-")


def revision(ref: DocumentRef, content: bytes) -> str:
    """Equal for equal content, name, title and metadata, read by the same version of the chunker."""
    digest = hashlib.sha256(f"chunks {VERSION}\0{ref.name}\0{ref.title}\0".encode())
    for key, value in sorted(ref.metadata.items()):
        digest.update(f"{key}\0{value}\0".encode())
    digest.update(b"text\0" if ref.text else b"bytes\0")
    digest.update(content)
    return digest.hexdigest()[:24]


def title(ref: DocumentRef, found: str) -> str:
    """The title that was given, else the document's own, else the file's name without its suffix."""
    return ref.title or " ".join(found.split())[:200] or re.sub(r"\.[A-Za-z0-9]{1,8}$", "", ref.name)
