"""Habits that a reader of any file can rely on."""

import ast
import re
from collections.abc import Iterator

from repository import PACKAGES, modules, texts

INSTRUCTION = re.compile(
    r"\b(you are (a|an|the) |answer (the|only|in) .*(question|passages)|respond (only )?(with|in) |"
    r"return (only )?(a )?json|think step by step|do not (invent|make up)|given the following|your task is)",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(r"(?<![\w.~$}*/<>-])/(work|root|home|Users)/\w")
REGISTRY = re.compile(
    r"(https?|file)://[^\s\"'`)]*(pypi\.|pythonhosted\.|registry\.npmjs\.|/simple\b)|/opt/(pypi|wheels)"
)
REASON = re.compile(r"#(?!\s*(noqa|type:)\b).*?\w+\W+\w+")
IGNORE = re.compile(r"#\s*(noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|type:\s*ignore(\[[\w, -]+\])?|pragma:\s*no cover)")


def test_no_prompt_stands_in_code() -> None:
    """Prompts are files in `services/route/prompts/`. Finds strings that speak to a model."""
    found = [
        f"{name}:{node.lineno}: {node.value[:60]!r}"
        for name, tree, _ in modules("shared", "services", "client")
        for node in spoken(tree)
        if isinstance(node.value, str) and INSTRUCTION.search(node.value)
    ]
    assert found == []


def test_the_finder_of_prompts_finds_one() -> None:
    tree = ast.parse('"""You are the docstring."""\nP = f"You are a helpful clerk. {x}"\n')
    assert [n.lineno for n in spoken(tree) if isinstance(n.value, str) and INSTRUCTION.search(n.value)] == [2]


def spoken(tree: ast.Module) -> Iterator[ast.Constant]:
    """All constants except docstrings and other strings that stand alone."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in alone)


def test_no_path_of_a_machine_and_no_registry_in_any_file() -> None:
    found = [
        f"{name}:{number}: {match.group(0)}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := MACHINE_PATH.search(line) or REGISTRY.search(line)) and "REGISTRY = " not in line
    ]
    assert found == []


def test_broad_excepts_say_why() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree, source in modules(*PACKAGES, "loadtest")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and broad(node)
        and not raises_again(node)
        and not reason(source.splitlines()[node.lineno - 1])
    ]
    assert found == []


def broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(c is None or (isinstance(c, ast.Name) and c.id in ("Exception", "BaseException")) for c in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    """It only cleans up: whatever was raised goes on."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def reason(line: str) -> bool:
    """Whether a comment of at least two words is left when the directives are taken away."""
    return REASON.search(IGNORE.sub("#", line)) is not None


def test_the_finder_of_reasons() -> None:
    assert reason("except Exception:  # noqa: BLE001  # the boundary of a worker")
    assert reason("except Exception:  # noqa: BLE001 - the boundary of a worker")
    assert reason("except Exception:  # whatever it is, the message is naked")
    assert not reason("except Exception:  # noqa: BLE001")
    assert not reason("except Exception:")


def test_every_ignore_carries_a_reason() -> None:
    found = [
        f"{name}:{number}: {line.strip()[-80:]}"
        for name, _, source in modules(*PACKAGES, "loadtest", "tests")
        for number, line in enumerate(source.splitlines(), start=1)
        if IGNORE.search(line) and not reason(line) and not name.endswith("architecture/test_rules_code.py")
    ]
    assert found == []
