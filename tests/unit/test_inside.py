"""Commands on the stack of compose.yaml that run inside it: what is missing is one line."""

import os
from pathlib import Path

import pytest

from client.cli.main import run
from client.stack.compose import Compose

COMMANDS = (["doctor"], ["tenant", "erase", "acme", "--yes"], ["tenant", "export", "acme", "-o", "acme.tar.gz"])
DOCKER = """\
#!/bin/sh
printf '%s\\n' "$@" > "$TOLD"
exit 3
"""


@pytest.fixture(autouse=True)
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_STACK", "compose")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))


@pytest.mark.parametrize("arguments", COMMANDS)
def test_without_secrets(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 3
    assert capsys.readouterr().err.startswith("penstock: deploy/secrets: no secrets there; run make secrets")


@pytest.mark.parametrize("arguments", COMMANDS)
def test_without_docker(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Compose.here().write()
    assert run(arguments) == 3
    assert capsys.readouterr().err.startswith("penstock: docker: not found; this command runs in the container")


def test_what_is_asked_of_docker(tmp_path: Path) -> None:
    Compose.here().write()
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    assert run(["tenant", "export", "acme", "-o", "out/acme.tar.gz", "--json"]) == 3
    told = (tmp_path / "told").read_text().split("\n")
    assert told[told.index("--volume") + 1] == f"{tmp_path / 'out'}:/exports"
    assert told[told.index("operator") :] == [
        "operator", "tenant", "export", "acme", "--out", "/exports/acme.tar.gz", "--json", "",
    ]  # fmt: skip
