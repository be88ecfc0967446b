"""What the architecture tests look at: the files of the repository, parsed."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "shared", "services", "client")
FOLDERS = {"generate": "generate_gpu"}
"""Services whose folder is not named as they are."""


def service_folder(service: str) -> Path:
    return ROOT / "services" / FOLDERS.get(service, service)


@cache
def files() -> tuple[Path, ...]:
    """All files that are, or are about to be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # git is found on PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def texts() -> list[tuple[str, str]]:
    """Name and content of each text file."""
    found = []
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            found.append((str(path.relative_to(ROOT)), content.decode("utf-8", errors="replace")))
    return found


@cache
def modules(*packages: str) -> tuple[tuple[str, ast.Module, str], ...]:
    """Name, syntax tree and source of each Python module of these top folders."""
    found = []
    for path in files():
        name = path.relative_to(ROOT)
        if path.suffix == ".py" and name.parts[0] in packages:
            source = path.read_text(encoding="utf-8")
            found.append((str(name), ast.parse(source), source))
    return tuple(found)
