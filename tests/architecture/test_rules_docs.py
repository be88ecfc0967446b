"""What the docs name exists: links, headings, make targets, commands."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from repository import ROOT, files

from client.cli.main import COMMANDS

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
MAKE = re.compile(r"(?:^\s{4}|`)make ([a-z][a-z-]*)", re.MULTILINE)
PENSTOCK = re.compile(r"(?:^\s{4}|`|\bbin/|^\$ |&& )penstock ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)
PAGES = sorted(path for path in files() if path.suffix == ".md" and "prompts" not in path.parts)
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@EACH
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page.read_text(encoding="utf-8")) if not leads(page, link)] == []


@EACH
def test_every_make_target_exists(page: Path) -> None:
    assert set(MAKE.findall(page.read_text(encoding="utf-8"))) - targets() == set()


@EACH
def test_every_command_exists(page: Path) -> None:
    assert [named for named in PENSTOCK.findall(page.read_text(encoding="utf-8")) if not is_command(*named)] == []


def test_the_readme_names_every_command() -> None:
    named = {command for command, _ in PENSTOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {command.name for command in COMMANDS} - named == set()


def test_the_finders_find() -> None:
    page = ROOT / "README.md"
    assert links("see [a](b.md#c), `[x](y)` and [d](https://e.example)") == ["b.md#c", "https://e.example"]
    assert leads(page, "docs/architecture.md#what-happens-to-a-message")
    assert not leads(page, "docs/architecture.md#no-such-heading")
    assert not leads(page, "docs/no-such-page.md")
    assert MAKE.findall("`make nonsense` or make do") == ["nonsense"]
    assert PENSTOCK.findall("`penstock dead list`, `.venv/bin/penstock nope`") == [("dead", "list"), ("nope", "")]
    assert is_command("dead", "list")
    assert not is_command("dead", "nope")
    assert not is_command("nope", "")


def links(text: str) -> list[str]:
    """Targets of all links outside code."""
    return LINK.findall(CODE.sub("", text))


def leads(page: Path, link: str) -> bool:
    """Whether a link has a file or a heading at its end; links to the web are not looked at."""
    if re.match(r"[a-z]+:", link):
        return True
    name, _, heading = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not heading or heading in headings(target))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def targets() -> set[str]:
    """What `make help` lists."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  make ([a-z-]+)", listed.stdout, re.MULTILINE))


def is_command(name: str, second: str) -> bool:
    """Whether `penstock NAME` exists; of a command that has commands of its own, the second word too."""
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None or not (command.group and second):
        return command is not None
    return second in {known.name for known in command.load().registered_commands}
