"""Where a server is, fit to be shown."""

from urllib.parse import urlsplit


def address(url: str) -> str:
    """A URL without user and password, and without what follows the host."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else url
