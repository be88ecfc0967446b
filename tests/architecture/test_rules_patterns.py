"""Every pattern has a test on its scenario and a page in the docs."""

import re

import pytest
from repository import ROOT, texts

PATTERNS = sorted(
    path.stem.replace("_", "-")
    for path in (ROOT / "services" / "route" / "patterns").glob("*.py")
    if not path.stem.startswith("_")
)
WITHOUT_PAGE = {"noop"}  # for benches and tests, not for users
EACH = pytest.mark.parametrize("pattern", PATTERNS)


def test_there_are_patterns() -> None:
    assert "rag" in PATTERNS


@EACH
def test_every_pattern_has_a_test(pattern: str) -> None:
    named = re.compile(rf"""["'`./]{re.escape(pattern)}["'`\s]|\b{re.escape(pattern.replace("-", "_"))}\b""")
    tests = [name for name, text in texts() if name.startswith("tests/") and "/test_" in name and named.search(text)]
    assert [name for name in tests if "architecture" not in name], f"no test mentions the pattern {pattern}"


@EACH
def test_every_pattern_has_a_page(pattern: str) -> None:
    if pattern in WITHOUT_PAGE:
        pytest.skip("for benches and tests, not for users")
    page = ROOT / "docs" / "patterns" / f"{pattern}.md"
    assert page.is_file()
    text = page.read_text(encoding="utf-8")
    assert f"jobs.default.{pattern} " in text, "say how to run it with `nats pub`"
    assert "penstock " in text, "say how to run it with the command"


def test_no_page_without_a_pattern() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "patterns").glob("*.md")} - {"README"}
    assert pages <= set(PATTERNS)
