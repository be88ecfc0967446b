"""What happens when a service or a user comes before the servers do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import NatsServer, free_port, start_nats, start_redis

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

PENSTOCK = Path(sys.executable).with_name("penstock")


class Service:
    """A service process started alone, and what it has logged."""

    def __init__(self, module: str, log: Path, **settings: str) -> None:
        self._log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], env=environment | settings, stdout=log.open("wb"), stderr=subprocess.STDOUT
        )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, said: str) -> None:
        until(lambda: said in self.log or self.process.poll() is not None)
        assert said in self.log, self.log


@contextmanager
def running(module: str, folder: Path, **settings: str) -> Iterator[Service]:
    service = Service(module, folder / "service.log", PENSTOCK_DATA=str(folder), **settings)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait(10)


def until(happened: Callable[[], object], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def penstock(*arguments: str, data: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [str(PENSTOCK), *arguments, "--data", str(data)], env=environment, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip


def test_a_service_waits_for_nats_and_then_for_redis_with_one_clear_line_each_and_goes_on(tmp_path: Path) -> None:
    nats, redis_port = NatsServer(tmp_path), free_port()
    settings = {
        "PENSTOCK_NATS_URL": f"nats://me:secret@127.0.0.1:{nats.port}",
        "PENSTOCK_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
    }
    with running("services.judge.app", tmp_path, **settings) as service:
        service.until(f"waiting for NATS at {nats.url}: start it, or set PENSTOCK_NATS_URL")
        time.sleep(0.6)  # some tries more: they are not all said
        assert len(service.log.splitlines()) == 1
        nats.start()
        try:
            service.until(f"waiting for Redis at redis://127.0.0.1:{redis_port}: start it, or set PENSTOCK_REDIS_URL")
            time.sleep(0.6)
            assert len(service.log.splitlines()) == 2
            with start_redis(tmp_path, redis_port):
                service.until("penstock-judge is ready")
                service.process.send_signal(signal.SIGTERM)
                assert service.process.wait(30) == 0
        finally:
            nats.stop()
        assert "secret" not in service.log
        assert "Traceback" not in service.log


def test_a_service_that_waits_can_be_stopped(tmp_path: Path) -> None:
    with running("services.judge.app", tmp_path, PENSTOCK_NATS_URL=f"nats://127.0.0.1:{free_port()}") as service:
        service.until("waiting for NATS")
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(10)
        assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (
            ("PENSTOCK_JUDGE_SLOTS", "3"),
            "penstock-judge: PENSTOCK_JUDGE_SLOTS: no such setting; known are PENSTOCK_JUDGE_",
        ),
        (
            ("PENSTOCK_JUDGE_ATTEMPTS", "many"),
            "penstock-judge: PENSTOCK_JUDGE_ATTEMPTS: Input should be a valid integer",
        ),
        (("PENSTOCK_NATS", "x"), "penstock-judge: PENSTOCK_NATS: no such setting; known are "),
    ],
)
def test_a_setting_that_is_wrong_ends_the_service_with_one_line(
    tmp_path: Path, setting: tuple[str, str], reason: str
) -> None:
    name, value = setting
    with running("services.judge.app", tmp_path, **{name: value}) as service:
        assert service.process.wait(60) == 1
        [line] = service.log.splitlines()
        assert line.startswith(reason)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "Is anybody there?"),
        ("status",),
        ("batch", __file__, "--pattern", "rag", "-o", "/dev/null"),
        ("job", "x"),
    ],
)
def test_a_command_without_a_stack_says_what_to_do(tmp_path: Path, arguments: Sequence[str]) -> None:
    done = penstock(*arguments, data=tmp_path)
    assert done.returncode == 3
    assert "penstock up" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_where_nobody_listens_names_the_address(tmp_path: Path) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    done = penstock("ask", "Is anybody there?", "--nats-url", url, data=tmp_path)
    assert done.returncode == 3
    assert f"no NATS server answers at {url}" in done.stderr
    assert "penstock up" in done.stderr


def test_a_question_to_a_nats_server_without_penstock_is_told_so(tmp_path: Path) -> None:
    with start_nats(tmp_path) as server:
        done = penstock("ask", "Is anybody there?", "--nats-url", server.url, data=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "penstock up" in done.stderr
