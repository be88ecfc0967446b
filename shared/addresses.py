"""Addresses of servers as settings carry them: one URL, or several of one cluster with commas between them."""

from urllib.parse import urlsplit


def servers(urls: str) -> list[str]:
    """Each server's URL. User and password of the first are those of all that name none.

    >>> servers("nats://me:word@a:4222,b:4222")
    ['nats://me:word@a:4222', 'nats://me:word@b:4222']
    """
    first, *others = [part.strip() for part in urls.split(",") if part.strip()] or [""]
    scheme, separator, rest = first.partition("://")
    credentials, at, _ = rest.rpartition("@")
    found = [first]
    for other in others:
        address = other.partition("://")[2] if "://" in other else other
        found.append(f"{scheme}{separator}{address if '@' in address else f'{credentials}{at}{address}'}")
    return found


def shown(urls: str) -> str:
    """The addresses without passwords, fit for logs and errors."""
    return ", ".join(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" for parts in map(urlsplit, servers(urls)))
