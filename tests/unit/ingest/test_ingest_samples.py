"""The sample library: made by its scripts, and read with exact clauses and pages."""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import msgspec
import pypdfium2 as pdfium
import pytest
from files import LIMITS

from contracts.documents import Chunk
from contracts.item import Input
from services.ingest.adapters.reading import read
from services.ingest.domain.chunks import cut

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples"
LIBRARY = SAMPLES / "library"
BOOKLET = LIBRARY / "HMO-483 Benefits 2025.pdf"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chunks(path: Path) -> list[Chunk]:
    return cut("doc", read(path.name, path.read_bytes(), False, LIMITS))


@pytest.fixture(scope="module")
def booklet() -> list[Chunk]:
    return chunks(BOOKLET)


def clause(booklet: list[Chunk], number: str) -> Chunk:
    [found] = [chunk for chunk in booklet if chunk.clause == number]
    return found


def test_the_committed_booklet_is_what_its_script_makes() -> None:
    """Byte for byte with the release of fpdf2 that wrote it, page for page with another."""
    module = script("make_booklet")
    made, kept = module.render(module.SOURCE.read_text(encoding="utf-8")), BOOKLET.read_bytes()
    if _producer(made) == _producer(kept):
        assert hashlib.sha256(made).hexdigest() == hashlib.sha256(kept).hexdigest()
    assert _pages(made) == _pages(kept)


def _producer(content: bytes) -> str:
    return str(pdfium.PdfDocument(content).get_metadata_value("Producer"))


def _pages(content: bytes) -> list[str]:
    return [str(page.get_textpage().get_text_range()) for page in pdfium.PdfDocument(content)]


def test_the_committed_guide_is_what_its_script_makes() -> None:
    module = script("make_guide")
    made = read("a.docx", module.render(), False, LIMITS)
    assert made == read("a.docx", module.TARGET.read_bytes(), False, LIMITS)


def test_every_clause_of_the_booklet_is_found_once_on_its_page(booklet: list[Chunk]) -> None:
    numbered = re.findall(r"^## (\d+\.\d+) (.+)$", (SAMPLES / "booklet.txt").read_text(encoding="utf-8"), re.M)
    pages = [" ".join(text.split()) for text in _pages(BOOKLET.read_bytes())]
    assert len(numbered) > 60
    for number, title in numbered:
        found = clause(booklet, number)
        [page] = [place for place, text in enumerate(pages, start=1) if f"{number} {title}" in text]
        assert (found.page, found.section.split(" › ")[1]) == (page, f"{number} {title}")


def test_the_clause_about_physiotherapy_can_be_cited(booklet: list[Chunk]) -> None:
    found = clause(booklet, "4.2")
    assert found.section == "4 Outpatient care and rehabilitation › 4.2 Physiotherapy after surgery"
    assert found.page == found.page_end == 3
    assert "including reconstruction of the anterior cruciate ligament (ACL)" in found.text
    assert "Up to 40 visits per surgery are covered within 12 months after the operation." in found.text


def test_the_booklet_as_it_was_written_comes_back_word_for_word(booklet: list[Chunk]) -> None:
    everything = " ".join(" ".join(chunk.text.split()) for chunk in booklet)
    for line in (SAMPLES / "booklet.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "|")):
            assert " ".join(line.split()) in everything
    assert "Member Services 1-800-555-0148 |" not in everything
    assert "Northgate Health | HMO-483" not in everything


def test_rows_of_the_benefit_table_name_their_columns(booklet: list[Chunk]) -> None:
    rows = [
        line
        for chunk in booklet
        if chunk.clause == "13"
        for line in chunk.text.split("\n")
        if line.startswith("Service:")
    ]
    assert len(rows) == 20
    assert rows[3] == (
        "Service: Physiotherapy after surgery, for example ACL reconstruction; In network: $25 copay; "
        "Outside the network: Not covered; Limits and clause: 40 visits per surgery within 12 months, see 4.2"
    )


@pytest.mark.parametrize("path", sorted(LIBRARY.iterdir()), ids=lambda path: path.suffix[1:])
def test_every_sample_is_read_into_citable_chunks(path: Path) -> None:
    found = chunks(path)
    assert len(found) >= 4
    assert all(chunk.text and chunk.tokens <= 300 for chunk in found)
    if path.suffix in {".md", ".docx"}:
        assert sum(bool(chunk.clause) for chunk in found) >= len(found) - 1
    if path.suffix == ".html":
        everything = " ".join(chunk.text for chunk in found)
        assert not any(word in everything for word in ("Careers", "tidy desk", "Cookie", "analytics"))
        assert (
            "Severity: SEV-1; Example: Loss of customer data, or an outage of all regions; First response: 15 minutes"
            in everything
        )


def test_the_batch_has_127_items_of_which_12_must_fail() -> None:
    lines = (SAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [
        json.loads(line) for line in (ROOT / "tests/e2e/sample_answers.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert (len(lines), len(answers)) == (127, 115)
    kinds: Counter[str] = Counter()
    for n, line in enumerate(lines):
        expected = next((answer for answer in answers if answer["n"] == n), None)
        kind = _kind(line, answered=expected is not None)
        assert (kind == "answered") == (expected is not None)
        kinds[kind] += 1
    assert kinds == {"answered": 115, "malformed": 4, "unanswerable": 4, "late": 4}


def _kind(line: str, answered: bool) -> str:
    try:
        given = msgspec.json.decode(line, type=Input)
    except msgspec.ValidationError:
        return "malformed"
    if not given.question:
        return "malformed"
    if given.deadline_s is not None:
        return "late"
    return "answered" if answered else "unanswerable"


def test_every_expected_phrase_stands_in_the_library() -> None:
    everything = " ".join(
        " ".join(chunk.text.split()) for path in sorted(LIBRARY.iterdir()) for chunk in chunks(path)
    ).lower()
    for line in (ROOT / "tests/e2e/sample_answers.jsonl").read_text(encoding="utf-8").splitlines():
        assert all(phrase.lower() in everything for phrase in json.loads(line)["contains"])
