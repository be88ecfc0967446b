"""compose.yaml with compose.tls.yaml: NATS and Redis speak nothing but TLS, to services, tenants and operators."""

import json
import ssl

import nats
import pytest

from loadtest.compose_stack import ComposeStack

QUESTION = "How many days of annual leave may be carried over?"


def test_the_main_job_over_tls(secure: ComposeStack) -> None:
    assert json.loads(secure.penstock("ingest", "samples/library", "--json"))["report"]["succeeded"] == 5
    assert json.loads(secure.penstock("ask", QUESTION, "--json"))["answer"]["quotes"]
    added = json.loads(secure.penstock("tenant", "add", "quill", "--json"))
    assert added["reloaded"]
    assert added["url"].startswith("tls://")
    assert secure.doctor() == []
    assert json.loads(secure.penstock("tenant", "erase", "quill", "--yes", "--json"))["complete"]


async def test_a_client_that_knows_nothing_of_ours(secure: ComposeStack) -> None:
    url = (secure.secrets / "default.url").read_text()
    trusts = ssl.create_default_context(cafile=secure.secrets / "ca.pem")
    client = await nats.connect(url, tls=trusts, tls_handshake_first=True)
    assert (await client.jetstream().account_info()).streams
    await client.close()


async def test_nothing_is_said_in_the_clear(secure: ComposeStack) -> None:
    plain = (secure.secrets / "default.url").read_text().replace("tls:", "nats:")
    with pytest.raises((nats.errors.Error, OSError)):
        await nats.connect(plain, allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=3)
    said = secure.compose("exec", "--no-TTY", "redis", "sh", "-c", "redis-cli ping 2>&1; true")
    assert "PONG" not in said


def test_services_come_back_to_new_servers(secure: ComposeStack) -> None:
    for server in ("nats", "redis"):
        secure.renew(server)
    assert json.loads(secure.penstock("ask", QUESTION, "--json"))["answer"]["quotes"]
