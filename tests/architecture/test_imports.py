"""Imports run one way, and `contracts` stands on msgspec alone."""

import ast
import sys

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports
from repository import ROOT, modules


def test_imports_run_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules are in pyproject.toml under `tool.importlinter`."""
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_contracts_import_msgspec_and_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "msgspec", "contracts"}
    foreign = {f"{name}: {top}" for name, tree, _ in modules("contracts") for top in imported(tree) - allowed}
    assert foreign == set()


def test_nothing_of_ours_imports_tests_or_benches() -> None:
    ours = modules("contracts", "shared", "services", "client")
    assert {name for name, tree, _ in ours if imported(tree) & {"tests", "loadtest"}} == set()


def imported(tree: ast.Module) -> set[str]:
    """The top packages that a module imports, also inside functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
