"""An authority of the stack's own and a certificate for each of its servers, made by openssl."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from client.errors import StackError

CA = "ca.pem"
CA_KEY = "ca.key"
_AUTHORITY_DAYS, _SERVER_DAYS = 3650, 825  # the latter is the most that some clients take
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

_AUTHORITY = """\
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
CN = Penstock of this stack
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def write_certificates(folder: Path, servers: Mapping[str, Iterable[str]]) -> None:
    """`ca.pem` with its key, which stay where they are there already; and anew `<server>.crt` and `<server>.key`, which
    hold for these hosts. Raises StackError where there is no openssl, or it refuses."""
    if not ((folder / CA).exists() and (folder / CA_KEY).exists()):
        _authority(folder)
    for name, hosts in servers.items():
        _server(folder, name, sorted(set(hosts)))


def remove_certificates(folder: Path, servers: Iterable[str]) -> None:
    for name in (CA, CA_KEY, *(f"{server}.{kind}" for server in servers for kind in ("crt", "key"))):
        (folder / name).unlink(missing_ok=True)


def _authority(folder: Path) -> None:
    with TemporaryDirectory() as scratch:
        config = Path(scratch) / "authority.cnf"
        config.write_text(_AUTHORITY)
        made = ("-keyout", folder / CA_KEY, "-out", folder / CA, "-days", _AUTHORITY_DAYS)
        _openssl("req", "-x509", *_KEY, "-config", config, *made)
    (folder / CA).chmod(0o444)


def _server(folder: Path, name: str, hosts: list[str]) -> None:
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    with TemporaryDirectory() as scratch:
        request, extensions, drafts = (Path(scratch) / file for file in ("request", "extensions", "drafts"))
        drafts.mkdir()
        extensions.write_text(_SERVER.format(names=",".join(map(_alternative, hosts))))
        _openssl("req", *_KEY, "-keyout", drafts / "key", "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", folder / CA, "-CAkey", folder / CA_KEY, "-CAcreateserial", "-CAserial", drafts / "serial")
        days = ("-days", _SERVER_DAYS, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *signing, *days, "-out", drafts / "crt")
        for made, file in ((drafts / "crt", cert), (drafts / "key", key)):
            if file.exists():
                file.chmod(0o600)
            file.write_bytes(made.read_bytes())  # over what is there: a container has mounted the file itself
            file.chmod(0o444)


def _alternative(host: str) -> str:
    return f"{'IP' if host.replace('.', '').isdigit() or ':' in host else 'DNS'}:{host}"


def _openssl(*arguments: str | int | Path) -> None:
    try:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise StackError("openssl: not found; certificates are made with it: install it") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise StackError(f"openssl {arguments[0]}: {(lines or ['failed'])[-1]}") from None
