"""Who runs the stack of compose.yaml: tenants let in, changed, taken out and erased while it runs; what is wrong is
one line."""

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.errors import NoServersError

from loadtest.compose_stack import ComposeStack

TEXT = "# Storage of Quillonium\n\nQuillonium must be stored below 40 degrees, in a dry room, and away from acids.\n"


def as_json(stack: ComposeStack, *arguments: str) -> Any:
    return json.loads(stack.penstock(*arguments, "--json"))


def test_a_tenant_from_its_first_day_to_its_last(stack: ComposeStack, tmp_path: Path) -> None:
    added = as_json(stack, "tenant", "add", "quill")
    assert (added["is_new"], added["reloaded"]) == (True, True)
    alice = as_json(stack, "tenant", "add", "quill", "--user", "alice")
    assert comes_in(added["url"])
    assert comes_in(alice["url"])

    manual = tmp_path / "quillonium.md"
    manual.write_text(TEXT)
    assert as_json(stack, "ingest", str(manual), "--tenant", "quill")["report"]["succeeded"] == 1
    question = "How must Quillonium be stored?"
    assert "40 degrees" in as_json(stack, "ask", question, "--tenant", "quill", "--session", "first")["answer"]["text"]

    rotated = as_json(stack, "tenant", "rotate", "quill")
    assert not comes_in(added["url"])
    assert comes_in(rotated["url"])
    as_json(stack, "tenant", "remove", "quill", "--user", "alice")
    assert not comes_in(alice["url"])
    assert [one["users"] for one in as_json(stack, "tenant", "list") if one["tenant"] == "quill"] == [["quill"]]

    archive = tmp_path / "quill.tar.gz"
    exported = {
        one["place"]: one["count"]
        for one in as_json(stack, "tenant", "export", "quill", "-o", str(archive))["exported"]
    }
    assert exported["documents"] == 1
    assert exported["results"] >= 2
    with tarfile.open(archive) as content:
        files = {member.name: member for member in content.getmembers() if member.isfile()}
        told = b"".join(content.extractfile(member).read() for member in files.values())  # type: ignore[union-attr]  # files have content
    assert b"away from acids" in told

    as_json(stack, "tenant", "remove", "quill")
    assert not comes_in(rotated["url"])
    erased = as_json(stack, "tenant", "erase", "quill", "--yes")
    assert erased["complete"]
    removed = {one["place"]: one["count"] for one in erased["removed"]}
    assert removed["documents"] == 1
    assert removed["index"] == 2, "each replica of retrieve has dropped it"
    again = {one["place"]: one["count"] for one in as_json(stack, "tenant", "erase", "quill", "--yes")["removed"]}
    assert sum(again.values()) == 0


def comes_in(url: str) -> bool:
    async def connect() -> bool:
        try:
            client = await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1)
        except (nats.errors.Error, NoServersError):
            return False
        await client.close()
        return True

    return asyncio.run(connect())


def test_doctor_finds_all_well(stack: ComposeStack) -> None:
    assert stack.doctor() == []


@pytest.mark.parametrize(("server", "name"), [("opensearch", "OpenSearch"), ("redis", "Redis")])
def test_doctor_names_a_server_that_is_down(stack: ComposeStack, server: str, name: str) -> None:
    stack.compose("stop", server)
    try:
        bad = [check for check in stack.doctor() if check["name"] == name]
    finally:
        stack.compose("up", "--detach", "--wait", "--no-deps", server)
    assert len(bad) == 1
    assert f"{server}:" in str(bad[0]["found"])
    assert "nobody answers" in str(bad[0]["found"])
    assert bad[0]["todo"]


def test_doctor_names_wrong_credentials(stack: ComposeStack) -> None:
    """As after a password was changed on one side only."""
    file = stack.secrets / "redis-url"
    right = file.read_text()
    file.chmod(0o644)
    file.write_text(right.replace("@redis", "s@redis"))
    try:
        bad = stack.doctor()
    finally:
        file.write_text(right)
        file.chmod(0o444)
    assert [check["name"] for check in bad] == ["Redis"]
    assert "turns user or password down" in str(bad[0]["found"])
