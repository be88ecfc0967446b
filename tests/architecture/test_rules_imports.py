"""Imports run one way, and `contracts` stands on msgspec alone."""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

from repository import ROOT, modules


def test_imports_run_one_way() -> None:
    """The rules are in pyproject.toml under `tool.importlinter`; in a process of its own, without the tests' paths."""
    program = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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
