"""Real contracts (plain text with numbered sections) yield sections that can be cited."""

import os
from pathlib import Path

import pytest
from files import LIMITS

from contracts.documents import Chunk
from services.ingest.adapters.reading import read
from services.ingest.domain.blocks import Reading
from services.ingest.domain.chunks import cut
from services.ingest.domain.parts import split
from services.ingest.domain.windows import CEILING
from shared.text import count_tokens

DATA = Path(os.environ.get("PENSTOCK_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data") / "contracts"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no contracts in {DATA}; set PENSTOCK_TEST_DATA"),
]


def reading(start: str) -> Reading:
    [path] = [path for path in DATA.iterdir() if path.name.startswith(start)]
    return read(path.name, path.read_bytes(), False, LIMITS)


def contract(start: str) -> list[Chunk]:
    return cut("doc", reading(start))


def test_articles_and_sections_of_a_licence() -> None:
    chunks = contract("GarrettMotion")
    clauses = [chunk.clause for chunk in chunks]
    for number in ("1.01", "2.01", "5.02", "7.01", "8.02", "11.02", "11.17"):
        assert number in clauses
    [liability] = [chunk for chunk in chunks if chunk.clause == "7.01"]
    assert liability.section.endswith(
        "ARTICLE VII LIMITATION OF LIABILITY AND WARRANTY DISCLAIMER › Section 7.01. Limitation on Liability"
    )
    assert liability.text.startswith("Section 7.01. Limitation on Liability. Without limiting the terms")
    assert not any("Source: GARRETT MOTION" in chunk.text for chunk in chunks)


def test_definitions_of_a_supply_agreement_are_clauses_of_their_own() -> None:
    chunks = contract("VERICELCORP")
    definitions = {chunk.clause: chunk for chunk in chunks if chunk.clause.startswith("1.")}
    assert len(definitions) > 50
    assert definitions["1.43"].text == '1.43 "Regulatory Change" has the meaning set forth in Section 4.4.'
    assert definitions["1.43"].section == "Article 1 DEFINITIONS"
    [batch] = [chunk for chunk in chunks if chunk.clause == "2.8(d)"]
    assert batch.text.startswith("2.8 Forecasting and Ordering.\n\n(d) BARDA.")


def test_no_chunk_of_any_contract_is_too_long_and_long_ones_have_clauses() -> None:
    clauses = 0
    for path in sorted(DATA.iterdir()):
        chunks = cut("doc", read(path.name, path.read_bytes(), False, LIMITS))
        assert all(0 < chunk.tokens <= CEILING for chunk in chunks)
        clauses += len({chunk.clause for chunk in chunks if chunk.clause})
    assert clauses > 900


def test_a_long_contract_in_parts_for_map_reduce() -> None:
    parts = split(reading("AtnInternational"), 1000)
    sizes = count_tokens([part.text for part in parts])
    assert len(parts) > 30
    assert all(size <= 1050 for size in sizes)
    assert sum(size >= 600 for size in sizes) >= 0.9 * len(parts)
