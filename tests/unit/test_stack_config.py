"""The files that the embedded stack writes for its processes."""

import configparser
from pathlib import Path

import pytest

from client.stack.config import SERVICES, commands, environment, nats_config, supervisor_config
from client.stack.info import SOCKET_LIMIT, StackInfo, find_data, load, socket_folder, stack_id
from client.stack.lifecycle import plan as plan_of
from client.stack.ports import free_ports, is_free
from client.stack.ready import cause
from client.stack.secrets import Secrets
from shared.settings import SERVICES as SERVICE_NAMES

SECRETS = Secrets().complete(SERVICES, ["default"])


def plan(data: Path, services: dict[str, str], before: StackInfo | None = None) -> StackInfo:
    return plan_of(data, services, SECRETS, before)


def test_every_service_has_a_module() -> None:
    assert tuple(SERVICES) == SERVICE_NAMES


def test_two_folders_have_different_ids_sockets_and_ports(tmp_path: Path) -> None:
    one, two = plan(tmp_path / "one", SERVICES), plan(tmp_path / "two", SERVICES)
    assert stack_id(tmp_path / "one") != stack_id(tmp_path / "two")
    assert one.socket != two.socket
    assert one.nats_port != one.redis_port


def test_a_new_plan_keeps_the_ports_that_are_still_free(tmp_path: Path) -> None:
    first = plan(tmp_path, SERVICES)
    again = plan(tmp_path, SERVICES, first)
    assert (again.nats_port, again.redis_port) == (first.nats_port, first.redis_port)


def test_a_taken_port_is_left_alone() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert port not in free_ports((port, 0))


def test_the_socket_path_is_short_however_long_the_data_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    assert len(plan(deep, SERVICES).socket.encode()) < SOCKET_LIMIT


def test_the_socket_folder_is_refused_when_others_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import tempfile

    from client.errors import StackError

    short = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    open_folder = short / f"penstock-{os.getuid()}"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with pytest.raises(StackError, match="mode 700"):
        socket_folder()
    open_folder.rmdir()
    short.rmdir()


def test_supervisor_runs_everything_and_stops_the_ground_last(tmp_path: Path) -> None:
    info = plan(tmp_path / "100% of it", SERVICES)
    parser = configparser.RawConfigParser()
    parser.read_string(supervisor_config(info))
    programs = {name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")}
    assert programs == {"nats", "redis", *SERVICES}
    assert parser.getint("group:ground", "priority") < parser.getint("group:services", "priority")
    assert all(parser.getboolean(f"program:{name}", "autorestart") for name in programs)


def test_nats_takes_messages_of_eight_megabytes(tmp_path: Path) -> None:
    assert "max_payload: 8388608" in nats_config(plan(tmp_path, SERVICES), SECRETS)


def test_processes_get_the_address_of_their_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_NATS_URL", "nats://somewhere.else:4222")
    monkeypatch.setenv("PENSTOCK_MODELS", "models.yaml")
    monkeypatch.setenv("PENSTOCK_TEST_DATA", "/data")
    info = plan(tmp_path, SERVICES)
    env = environment(info)
    assert "PENSTOCK_TEST_DATA" not in env
    assert "PENSTOCK_NATS_URL" not in env  # each service has a file of its own
    assert env["PENSTOCK_DATA"] == str(tmp_path)
    assert Path(env["PENSTOCK_MODELS"]).is_absolute()


def test_the_servers_are_real_programs(tmp_path: Path) -> None:
    wanted = commands(plan(tmp_path, SERVICES))
    assert Path(wanted["nats"][0]).is_file()
    assert Path(wanted["redis"][0]).is_file()
    assert wanted["generate"][-1] == "services.generate_gpu.app"


def test_the_data_folder_is_the_option_else_the_variable_else_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_DATA", raising=False)
    assert find_data() == tmp_path / ".penstock"
    monkeypatch.setenv("PENSTOCK_DATA", "elsewhere")
    assert find_data() == tmp_path / "elsewhere"
    assert find_data(Path("mine")) == tmp_path / "mine"


def test_an_unreadable_record_counts_as_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    (tmp_path / "stack.json").write_text("{")
    assert load(tmp_path) is None


def test_the_cause_is_the_last_line_that_speaks_of_an_error(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("old error: of last week\n")
    start = log.stat().st_size
    log.write_text(
        log.read_text()
        + "Traceback (most recent call last):\n  File 'x'\nSettingsError: PENSTOCK_X: no such setting\n\n"
    )
    assert cause(log, start) == "SettingsError: PENSTOCK_X: no such setting"
    assert cause(tmp_path / "missing.log") == ""
