"""The command line: errors are one line with an exit code, options are read with their names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli.ask import rung
from client.cli.batch import read_options
from client.cli.demo import wipe
from client.cli.main import COMMANDS, build, exit_code, run
from client.cli.options import address
from client.cli.screen import money, reasons, seconds, size
from client.documents import find_documents
from client.errors import Interrupted, JobIdInUse, NotFound, StackError, TimedOut, Unreachable, UsageError
from client.stack.info import StackInfo, save
from contracts.item import Answer
from shared.errors import Poison, QueueFull


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_DATA", raising=False)
    monkeypatch.delenv("PENSTOCK_NATS_URL", raising=False)


@pytest.mark.parametrize("command", [command.name for command in COMMANDS if command.name != "eval"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage: penstock " + command in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command.name in out for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status"], 3, "penstock up"),
        (["ask", "q"], 3, "no stack is running in"),
        (["ask", "q", "--nats-url", "nats://127.0.0.1:1"], 3, "no NATS server answers at nats://127.0.0.1:1"),
        (["batch", "no.jsonl", "--pattern", "rag", "-o", "out.jsonl"], 2, "no.jsonl: no such file"),
        (["ingest", "nowhere", "--nats-url", "nats://127.0.0.1:1"], 3, "penstock up"),
        (["dead", "redrive"], 2, "expected numbers of letters, or --all"),
        (["demo", "--samples", "nowhere"], 2, "nowhere"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    said = capsys.readouterr()
    assert said.err.startswith("penstock: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_wrong_usage_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["no-such-command"]) == 2
    assert run(["batch"]) == 2
    assert run(["ask", "q", "--passages", "many"]) == 2


def test_with_json_an_error_is_one_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 3
    assert "penstock up" in document["error"]


def test_every_kind_of_error_has_its_code() -> None:
    kinds = [UsageError, NotFound, Unreachable, StackError, QueueFull, JobIdInUse, TimedOut, Interrupted, Poison]
    assert [exit_code(kind("x")) for kind in kinds] == [2, 2, 3, 3, 4, 4, 5, 130, 1]


def test_ctrl_c_is_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.cli.down.stop", interrupt)
    assert run(["down"]) == 130
    assert capsys.readouterr().err == "penstock: interrupted\n"


def test_a_command_imports_only_what_it_needs() -> None:
    code = "import sys; from client.cli.main import build; build(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{heavy}'" in loaded for heavy in ("nats", "redis", "numpy", "psutil", "pydantic", "onnxruntime"))


def test_commands_that_are_not_called_are_only_named() -> None:
    assert len(build([]).registered_commands) == len(COMMANDS)


def test_the_address_is_the_option_else_the_data_folder_else_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    save(StackInfo(str(data), "nats://of-data", "nats://of-operator", "redis://", 1, 2, "socket", {}))
    assert address(data, "nats://given", "default") == "nats://given"
    monkeypatch.setenv("PENSTOCK_NATS_URL", "nats://of-environment")
    assert address(data, "", "default") == "nats://of-data"
    assert address(None, "", "default") == "nats://of-environment"
    monkeypatch.delenv("PENSTOCK_NATS_URL")
    monkeypatch.setenv("PENSTOCK_DATA", str(data))
    assert address(None, "", "default") == "nats://of-data"


def test_options_of_a_batch_are_typed(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    options = read_options(["passages=8", "temperature=0.7", "when_refused=fail", f"schema=@{schema}", "stream=true"])
    assert (options.passages, options.temperature, options.when_refused) == (8, 0.7, "fail")
    assert (options.schema, options.stream) == ({"type": "object"}, True)
    assert read_options(['schema={"type":"array"}']).schema == {"type": "array"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("passages", "expected name=value"),
        ("passages=many", r"passages"),
        ("passagez=8", "passagez.*known are model, prompt, passages"),
        ("when_refused=explode", "when_refused"),
        ("schema=@nowhere.json", "schema.*nowhere"),
        ("schema={", "schema"),
    ],
)
def test_a_wrong_option_is_named(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_options([given])


def test_documents_are_found_in_folders_by_suffix_and_taken_as_named(tmp_path: Path) -> None:
    for name in ("b.md", "a.pdf", "sub/c.csv", "notes.xyz", ".hidden/d.md"):
        file = tmp_path / "library" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = find_documents([tmp_path / "library", tmp_path / "library" / "notes.xyz"])
    assert [document.name for document in found] == ["a.pdf", "b.md", "sub/c.csv", "notes.xyz"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.md").touch()
    with pytest.raises(UsageError, match="have the same name"):
        find_documents([tmp_path / "library", tmp_path / "other"])


def test_documents_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: no such file or folder"):
        find_documents([Path("gone")])
    with pytest.raises(UsageError, match=r"no documents in .*expected .*\.pdf"):
        find_documents([tmp_path])


def test_the_demo_wipes_only_what_a_stack_has_written(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        wipe(mine)
    assert (mine / "thesis.txt").exists()
    old = tmp_path / "old"
    old.mkdir()
    (old / "supervisord.conf").touch()
    wipe(old)
    assert not old.exists()


def test_numbers_are_said_so_that_people_can_read_them() -> None:
    assert [seconds(x) for x in (0.0123, 3.21, 200)] == ["12 ms", "3.2 s", "3 min 20 s"]
    assert [money(x) for x in (0, 0.00123, 12.345)] == ["$0.00", "$0.0012", "$12.35"]
    assert [size(x) for x in (1_500_000, 2_340_000_000)] == ["1.5 MB", "2.34 GB"]
    assert reasons({"malformed": 5, "unanswerable": 7}) == "7 unanswerable, 5 malformed"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer("x", model="large"), ""),
        (Answer("x", model="spare", rung="backup", why="large: 503"), "backup: answered by spare\nlarge: 503"),
        (Answer("x", mode="degraded", rung="degraded", why="large: 503"), "degraded: sentences of the documents"),
        (Answer("x", mode="refused", rung="degraded", why="large: 503"), "refused: the documents do not answer this"),
        (Answer("x", mode="degraded", rung="degraded", escalate=True), "degraded: a text that was written beforehand;"),
    ],
)
def test_an_answer_of_another_rung_says_so(answer: Answer, shown: str) -> None:
    assert rung(answer).startswith(shown)
    assert bool(rung(answer)) == bool(shown)
    assert answer.why in rung(answer)
