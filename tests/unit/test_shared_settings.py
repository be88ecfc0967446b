"""Settings: unknown and wrong variables are refused by name."""

import os
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from services.route.config import RouteSettings
from shared.settings import ServiceSettings, SettingsError, StackSettings


class JudgeSettings(ServiceSettings):
    service: ClassVar[str] = "judge"
    strictness: float = Field(default=0.5, ge=0, le=1)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def test_variables_of_the_service_and_of_the_stack_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_JUDGE_STRICTNESS", "0.75")
    monkeypatch.setenv("PENSTOCK_JUDGE_BATCH_SLOTS", "2")
    monkeypatch.setenv("PENSTOCK_NATS_URL", "nats://somewhere:4222")
    monkeypatch.setenv("PENSTOCK_DATA", "there")
    judge, stack = JudgeSettings.load(), StackSettings.load()
    assert (judge.strictness, judge.batch_slots, judge.attempts) == (0.75, 2, 5)
    assert (stack.nats_url, stack.data, stack.otlp) == ("nats://somewhere:4222", Path("there"), "")


def test_each_service_has_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_JUDGE_ATTEMPTS", "9")
    assert (JudgeSettings.load().attempts, RouteSettings.load().attempts) == (9, 5)


@pytest.mark.parametrize(
    ("kind", "variable", "known"),
    [
        (JudgeSettings, "PENSTOCK_JUDGE_STRICTNES", "PENSTOCK_JUDGE_STRICTNESS"),
        (RouteSettings, "PENSTOCK_ROUTE_SHARDS", "PENSTOCK_ROUTE_SHARD_SIZE"),
        (StackSettings, "PENSTOCK_NATS", "PENSTOCK_NATS_URL"),
        (StackSettings, "PENSTOCK_JUDGES_X", "PENSTOCK_REDIS_URL"),
    ],
)
def test_an_unknown_variable_is_named_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings | StackSettings], variable: str, known: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=f"^{variable}: no such setting; known are .*{known}"):
        kind.load()


@pytest.mark.parametrize(
    ("kind", "variable", "value", "text"),
    [
        (JudgeSettings, "PENSTOCK_JUDGE_STRICTNESS", "2", "less than or equal to 1"),
        (JudgeSettings, "PENSTOCK_JUDGE_ATTEMPTS", "many", "valid integer"),
        (JudgeSettings, "PENSTOCK_JUDGE_ATTEMPTS", "0", "greater than or equal to 1"),
        (JudgeSettings, "PENSTOCK_JUDGE_BATCH_SLOTS", "0", "greater than or equal to 1"),
        (JudgeSettings, "PENSTOCK_JUDGE_INTERACTIVE_SLOTS", "-1", "greater than or equal to 1"),
        (JudgeSettings, "PENSTOCK_JUDGE_ACK_WAIT_S", "0", "greater than"),
        (RouteSettings, "PENSTOCK_ROUTE_BATCH_SLOTS", "0", "greater than or equal to 1"),
        (RouteSettings, "PENSTOCK_ROUTE_SHARD_SIZE", "0", "greater than or equal to 1"),
        (StackSettings, "PENSTOCK_LOG_LEVEL", "LOUD", "'DEBUG'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_and_what_came(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings | StackSettings], variable: str, value: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        kind.load()
    assert str(raised.value).startswith(f"{variable}: ")
    assert text in str(raised.value)
    assert str(raised.value).endswith(f"got {value!r}")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        JudgeSettings.load().attempts = 3


def test_an_address_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "nats"
    file.write_text("nats://route:secret@there:4222\n")
    monkeypatch.setenv("PENSTOCK_NATS_URL_FILE", str(file))
    assert StackSettings.load().nats_url == "nats://route:secret@there:4222"
    monkeypatch.setenv("PENSTOCK_NATS_URL", "nats://elsewhere:4222")
    with pytest.raises(SettingsError, match="expected either this or PENSTOCK_NATS_URL, got both"):
        StackSettings.load()
    monkeypatch.delenv("PENSTOCK_NATS_URL")
    file.unlink()
    with pytest.raises(SettingsError, match="PENSTOCK_NATS_URL_FILE: No such file"):
        StackSettings.load()
