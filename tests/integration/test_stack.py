"""The embedded stack with real servers; its services are small stand-ins that answer discovery."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from client.errors import StackError
from client.stack import down, load, status, up
from client.stack.ports import free_ports
from client.stack.processes import alive, of_stack

pytestmark = pytest.mark.servers

STAND_IN = """
import asyncio, os, subprocess, sys, nats
from nats.micro import add_service

async def main():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    while True:
        try:
            nc = await nats.connect(open(os.environ["PENSTOCK_NATS_URL_FILE"]).read())
            break
        except Exception:
            await asyncio.sleep(0.05)
    await add_service(nc, name="penstock-stand-in", version="0.1.0")
    await asyncio.sleep(600)

asyncio.run(main())
"""
SERVICES = {"stand-in": "penstock_stand_in"}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "penstock_stand_in.py").write_text(STAND_IN)
    (folder / "penstock_broken.py").write_text("raise SystemExit('ValueError: PENSTOCK_BROKEN_X: no such setting')")
    (folder / "penstock_fading.py").write_text("import time; time.sleep(1.5); raise OSError('the model is gone')")
    (folder / "penstock_silent.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a stack, 100% mine"
    yield folder
    down(folder)
    assert of_stack(folder) == []


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


async def limits(url: str) -> tuple[int, int]:
    nc = await nats.connect(url)
    streams = (await nc.jetstream().account_info()).streams
    await nc.close()
    return streams, nc.max_payload


def test_up_answers_and_down_leaves_nothing(data: Path) -> None:
    info = up(data, services=SERVICES)
    assert {process.pid for process in of_stack(data)} >= {info.supervisor_pid, *info.pids.values()}
    assert asyncio.run(limits(info.nats_url)) == (3, 8 << 20)  # copies of results and events, and the bucket of uploads
    assert load(data) == info
    assert all(alive(pid) for pid in info.pids.values())

    stopped = down(data)

    assert stopped.was_running
    assert stopped.strays == 1  # the stand-in's own child, which had left its process group
    assert [name for name, pid in info.pids.items() if alive(pid)] == []
    assert not Path(info.socket).exists()
    assert load(data) is None


def test_two_stacks_do_not_meet(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    try:
        one, two = up(data, services=SERVICES), up(other, services=SERVICES)
        assert not {one.nats_port, one.redis_port} & {two.nats_port, two.redis_port}
        down(data)
        assert status(data) is None
        assert status(other) is not None
    finally:
        down(other)


def test_a_second_up_finds_the_first_and_a_killed_process_comes_back(data: Path) -> None:
    info = up(data, services=SERVICES)
    assert up(data, services=SERVICES).pids == info.pids
    os.kill(info.pids["stand-in"], signal.SIGKILL)

    def back() -> bool:
        now = status(data)
        return bool(now and now.pids["stand-in"] not in (0, info.pids["stand-in"]))

    until(back)


def test_what_a_crash_left_is_cleaned_by_up(data: Path) -> None:
    info = up(data, services=SERVICES)
    os.kill(info.supervisor_pid, signal.SIGKILL)  # its children live on, without a parent
    until(lambda: status(data) is None)
    assert alive(info.pids["nats"])

    again = up(data, services=SERVICES)

    assert again.supervisor_pid != info.supervisor_pid
    assert [name for name, pid in info.pids.items() if alive(pid)] == []


def test_down_works_when_parts_have_died(data: Path) -> None:
    info = up(data, services=SERVICES)
    for pid in (info.supervisor_pid, info.pids["nats"]):
        os.kill(pid, signal.SIGKILL)
    stopped = down(data)
    assert not stopped.was_running
    assert [name for name, pid in info.pids.items() if alive(pid)] == []


def test_down_without_a_stack_says_so(tmp_path: Path) -> None:
    assert not down(tmp_path / "nowhere").was_running


def test_a_record_of_before_a_reboot_is_stale(data: Path) -> None:
    info = up(data, services=SERVICES)
    record = (data / "stack.json").read_bytes()
    down(data)
    (data / "stack.json").write_bytes(record)  # as if the machine had been switched off
    assert status(data) is None
    assert up(data, services=SERVICES).nats_port == info.nats_port  # the same address, as it is free


def test_a_service_that_does_not_start_is_named_with_its_reason_and_everything_stops(data: Path) -> None:
    with pytest.raises(StackError) as failure:
        up(data, services=SERVICES | {"broken": "penstock_broken"})
    message = str(failure.value)
    assert message.startswith("broken did not start: ValueError: PENSTOCK_BROKEN_X: no such setting")
    assert "logs/broken.log" in message
    assert "\n" not in message
    assert of_stack(data) == []


def test_a_service_that_ends_again_and_again_is_not_waited_for(data: Path) -> None:
    with pytest.raises(StackError, match="fading did not start: OSError: the model is gone"):
        up(data, ready_s=40, services={"fading": "penstock_fading"})


def test_a_service_that_does_not_answer_is_named(data: Path) -> None:
    with pytest.raises(StackError, match="silent did not answer within 4 s"):
        up(data, ready_s=4, services=SERVICES | {"silent": "penstock_silent"})
    assert of_stack(data) == []


def test_a_port_that_somebody_takes_meanwhile_is_given_up(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1]]

        def racy(wanted: tuple[int, ...]) -> list[int]:
            chosen = free_ports(wanted)
            return [chosen[0], ports.pop() if ports else chosen[1]]

        monkeypatch.setattr("client.stack.lifecycle.free_ports", racy)
        info = up(data, services=SERVICES)
        assert info.redis_port != taken.getsockname()[1]
