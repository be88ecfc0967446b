"""No password of a stack at work stands in a log, in a command line, in an environment, or in an error."""

import os
import signal

import pytest

from client.client import Penstock
from client.errors import Unreachable
from client.stack import status
from client.stack.processes import of_stack
from client.stack.secrets import load
from contracts.item import Input
from contracts.job import Options
from e2e.running import Running, Script, eventually
from loadtest.scripted_model import Reply

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


async def test_services_at_work_say_no_password(penstock: Penstock, stack: Running, script: Script) -> None:
    """After answers, failures, a refusal, and a service that was killed: whatever they log by then."""
    script.when("fine", "Fine.")
    script.when("broken", Reply(status=500))
    items = [Input(question="fine"), Input(question=""), Input(question="broken", deadline_s=1)]
    await penstock.report(await penstock.submit("direct", items, Options(model="scripted")), timeout_s=60)
    before = status(stack.data)
    assert before is not None
    os.kill(before.pids["judge"], signal.SIGKILL)
    await eventually(lambda: _started_again(stack, before.pids["judge"]), 60)

    known = load(stack.data)
    secrets = [word for kind in (known.operators, known.services, known.tenants, known.redis) for word in kind.values()]
    assert len(secrets) > 10
    logs = {log.name: log.read_text(errors="replace") for log in (stack.data / "logs").iterdir() if log.is_file()}
    assert any(logs.values())
    assert [name for name, text in logs.items() if any(secret in text for secret in secrets)] == []
    processes = of_stack(stack.data)
    assert len(processes) >= 9  # seven services, two servers
    for process in processes:
        shown = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(secret in shown for secret in secrets), process.name()


async def test_an_error_says_no_password(stack: Running) -> None:
    for url in (stack.info.nats_url.replace("default", "nobody", 1), "nats://default:hunter2@127.0.0.1:1"):
        password = url.split(":")[2].split("@")[0]
        with pytest.raises(Unreachable) as failure:
            await Penstock.connect(url)
        assert password not in str(failure.value)
        assert password not in repr(failure.value.__cause__)


def _started_again(stack: Running, pid: int) -> bool:
    now = status(stack.data)
    return now is not None and now.pids.get("judge", pid) != pid and stack.log("judge").count("is ready") >= 2
