"""TLS to the servers, by the scheme of their address: `tls://` for NATS, `rediss://` for Redis, `https://` for engines.

A server is believed where its certificate was signed by an authority of PENSTOCK_CA_FILE (else one that the system
trusts), holds now, and names the host of the address.
"""

import asyncio
import logging
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shared.addresses import servers
from shared.errors import PenstockError

CA, CERT, KEY = "PENSTOCK_CA_FILE", "PENSTOCK_CERT_FILE", "PENSTOCK_KEY_FILE"
SCHEMES = {"tls": 4222, "rediss": 6379, "https": 443}
"""With the port that an address without one means."""

_GREETING_S = 1.0  # a NATS server that has not greeted by then waits for a handshake first
_WANTED = f"wants a certificate of ours that it knows: set {CERT} and {KEY}"
_WHY = {
    10: "its certificate has expired: renew it, or set the clock right",
    9: "its certificate does not hold yet: set the clock right",
    62: "its certificate names another host: use a name that it holds, or have it made anew",
    64: "its certificate names another address: use a name that it holds, or have it made anew",
}
"""By OpenSSL's number of the fault; every other means that the authority is not known."""


# Python up to 3.11 says so of every TLS connection of its streams that the other side ends; nothing is wrong then.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in str(record.msg))


class TlsError(PenstockError):
    """A certificate does not do; the text names the server, the cause and what to do."""


@dataclass(frozen=True)
class Tls:
    """Which authorities are believed, and who we are where a server asks for that. None: the system's, and nobody."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def from_environment(cls) -> "Tls":
        ca, cert, key = (Path(value) if (value := os.environ.get(name)) else None for name in (CA, CERT, KEY))
        return cls(ca, cert, key)

    def context(self) -> ssl.SSLContext:
        """Raises TlsError for files that cannot be used."""
        return _context(self)


NO_TLS = Tls()


@dataclass(frozen=True)
class NatsTls:
    """How to connect to a NATS server: the context, and whether the handshake comes before the server's greeting."""

    context: ssl.SSLContext
    first: bool = False


class _Greeting(msgspec.Struct):
    tls_required: bool = False


async def nats_tls(url: str, tls: Tls, timeout_s: float = 5.0) -> NatsTls | None:
    """What a connection to NATS needs; None where the address asks for no TLS.

    Raises TlsError where the certificates do not do, and where the server has no TLS: the library would then go on and
    say the password to everybody on the way. Raises OSError where nobody answers.
    """
    if urlsplit(url).scheme != "tls":
        return NatsTls(tls.context()) if tls.ca_file else None
    context = tls.context()
    host, port, reader, writer = await _reached(url, timeout_s)
    try:
        greeting = b""
        with suppress(TimeoutError):
            greeting = await asyncio.wait_for(reader.readline(), min(_GREETING_S, timeout_s))
        if greeting and not _requires_tls(greeting):
            raise TlsError(f"NATS at {host}:{port}: has no TLS; give it a certificate, or write nats:// in its address")
        await _shake(f"NATS at {host}:{port}", writer, context, host, timeout_s)
    finally:
        writer.close()
    return NatsTls(context, first=not greeting)


async def blame_tls(url: str, tls: Tls) -> None:
    """After a connection to NATS has failed: raises TlsError where the server cuts whoever shows no certificate.

    With TLS 1.3 that comes after the handshake, so only waiting for the server's next word tells.
    """
    if urlsplit(url).scheme != "tls":
        return
    context = tls.context()
    host, port, reader, writer = await _reached(url, _GREETING_S)
    server = f"NATS at {host}:{port}"
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.readline(), _GREETING_S)
        await _shake(server, writer, context, host, _GREETING_S)
        with suppress(TimeoutError):
            if not await asyncio.wait_for(reader.read(1), _GREETING_S):
                raise TlsError(f"{server}: {_WANTED} (it ends the connection)")
    except ssl.SSLError as error:
        raise explained(server, error) from None
    except ConnectionError as error:
        raise TlsError(f"{server}: {_WANTED} ({error.strerror or error})") from None
    finally:
        writer.close()


async def check_tls(what: str, url: str, tls: Tls, timeout_s: float = 5.0) -> None:
    """Raises TlsError where the address asks for TLS and the certificates do not do; who does not answer is no fault
    of these."""
    if urlsplit(url).scheme not in SCHEMES:
        return
    context = tls.context()
    try:
        host, port, _, writer = await _reached(url, timeout_s)
    except OSError:
        return
    try:
        await _shake(f"{what} at {host}:{port}", writer, context, host, timeout_s)
    finally:
        writer.close()


def explained(server: str, error: ssl.SSLError) -> TlsError:
    """The line for a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        unknown = f"its certificate is signed by an authority that is not known: set {CA} to the right one"
        return TlsError(f"{server}: {_WHY.get(error.verify_code, unknown)} ({error.verify_message})")
    reason = error.reason or str(error)
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        return TlsError(f"{server}: {_WANTED} ({reason})")
    return TlsError(f"{server}: does not speak TLS there: look at address and port ({reason})")


async def _shake(server: str, writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str, seconds: float) -> None:
    try:
        await asyncio.wait_for(writer.start_tls(context, server_hostname=host), seconds)
    except ssl.SSLError as error:
        raise explained(server, error) from None
    except TimeoutError:
        raise TlsError(f"{server}: no TLS handshake within {seconds:g} s: look at address and port") from None
    except OSError:
        raise TlsError(f"{server}: breaks off the TLS handshake: look at address and port") from None


def _requires_tls(greeting: bytes) -> bool:
    try:
        return msgspec.json.decode(greeting.removeprefix(b"INFO "), type=_Greeting).tls_required
    except msgspec.MsgspecError:
        return False


async def _reached(url: str, seconds: float) -> tuple[str, int, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first of the servers that takes one, with its host and port. Raises OSError."""
    last: OSError = ConnectionError(f"no server in {url!r}")
    for host, port in _places(url):
        try:
            return host, port, *await asyncio.wait_for(asyncio.open_connection(host, port), seconds)
        except OSError as error:  # a timeout too
            last = error
    raise last


def _places(urls: str) -> list[tuple[str, int]]:
    """Host and port of each server."""
    parsed = [urlsplit(url) for url in servers(urls)]
    return [(parts.hostname or "", parts.port or SCHEMES[parts.scheme]) for parts in parsed]


@cache
def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise TlsError(f"{CA}: {tls.ca_file}: {_unusable(error, 'certificates')}") from None
    if (tls.cert_file is None) != (tls.key_file is None):
        raise TlsError(f"{CERT} and {KEY}: expected both or none")
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except OSError as error:
            raise TlsError(f"{CERT}: {tls.cert_file}: {_unusable(error, 'a certificate with its key')}") from None
    return context


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    return ""


def _unusable(error: OSError, wanted: str) -> str:
    return f"expected {wanted} in PEM" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
