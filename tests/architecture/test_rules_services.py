"""Know one service, know all: the same rooms everywhere."""

import importlib

import pytest
from repository import ROOT, files, service_folder

from shared.settings import SERVICES, ServiceSettings

ROOMS = {"README.md", "app.py", "config.py", "handlers.py"}
MORE_ROOMS = {"__init__.py", "domain", "domain.py", "adapters"}
OWN_ROOMS = {"route": {"patterns", "prompts"}, "judge": {"rubrics"}, "generate": {"engines"}}
EACH = pytest.mark.parametrize("service", SERVICES)


def entries(service: str) -> set[str]:
    folder = service_folder(service)
    return {path.relative_to(folder).parts[0] for path in files() if folder in path.parents}


@EACH
def test_every_service_has_the_same_rooms(service: str) -> None:
    assert entries(service) >= ROOMS, f"missing: {ROOMS - entries(service)}"


@EACH
def test_no_service_has_rooms_of_its_own_fancy(service: str) -> None:
    assert entries(service) - ROOMS - MORE_ROOMS - OWN_ROOMS.get(service, set()) == set()


def test_no_folder_without_a_service() -> None:
    folders = {path.relative_to(ROOT / "services").parts[0] for path in files() if ROOT / "services" in path.parents}
    assert folders - {"__init__.py", "README.md"} == {service_folder(service).name for service in SERVICES}


@EACH
def test_readme_says_what_it_takes_gives_needs_and_how_it_fails(service: str) -> None:
    text = (service_folder(service) / "README.md").read_text(encoding="utf-8").lower()
    for word in ("takes", "gives", "settings", "fail"):
        assert word in text, f"services/{service_folder(service).name}/README.md does not say `{word}`"


@EACH
def test_settings_are_a_small_class_named_after_the_service(service: str) -> None:
    config = importlib.import_module(f"services.{service_folder(service).name}.config")
    own = [
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == config.__name__
    ]
    assert [settings.service for settings in own] == [service]


@EACH
def test_every_setting_is_in_the_readme(service: str) -> None:
    config = importlib.import_module(f"services.{service_folder(service).name}.config")
    text = (service_folder(service) / "README.md").read_text(encoding="utf-8")
    for value in vars(config).values():
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value.__module__ == config.__name__:
            own = value.model_fields.keys() - ServiceSettings.model_fields.keys()
            named = {n for n in own if f"{service.upper()}_{n.upper()}" in text or f"`{n}`" in text}
            assert own - named == set(), f"settings that the README does not explain: {sorted(own - named)}"
