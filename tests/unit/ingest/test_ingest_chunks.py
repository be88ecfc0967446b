"""How sections are cut: sizes, overlap, clauses, pages."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.domain.blocks import Block, Reading
from services.ingest.domain.chunks import LONG, LOT, cut
from services.ingest.domain.parts import split
from services.ingest.domain.units import Unit, units_of
from services.ingest.domain.windows import CEILING, FLOOR, OVERLAP, windows
from shared.text import count_tokens

WORDS = ("visit", "plan", "the", "covers", "surgery", "of", "copay", "days", "physiotherapy", "within")


@st.composite
def units(draw: st.DrawFn) -> list[Unit]:
    sizes = draw(st.lists(st.integers(1, 200), min_size=1, max_size=120))
    return [Unit(f"u{i}", size, block=i // 5, page=0, page_end=0) for i, size in enumerate(sizes)]


def size(some: list[Unit]) -> int:
    return sum(unit.tokens for unit in some)


@given(units())
def test_windows_hold_everything_in_order_and_nothing_beyond_the_ceiling(some: list[Unit]) -> None:
    cuts = list(windows(some))
    fresh = list(cuts[0])
    for before, window in pairwise(cuts):
        shared = next(n for n in range(len(window), -1, -1) if before[len(before) - n :] == window[:n])
        assert shared < len(window)
        fresh += window[shared:]
    assert fresh == some
    assert all(size(window) <= CEILING for window in cuts)


@given(units())
def test_windows_are_long_enough_and_overlap_by_about_150(some: list[Unit]) -> None:
    cuts = list(windows(some))
    assert len(cuts) == 1 or all(size(window) >= FLOOR for window in cuts[:-1])
    for before, window in pairwise(cuts):
        again = [unit for unit in window if unit in before]
        assert abs(size(again) - OVERLAP) <= 100


sentence = st.lists(st.sampled_from(WORDS), min_size=3, max_size=60).map(
    lambda words: " ".join(words).capitalize() + "."
)
paragraph = st.lists(sentence, min_size=1, max_size=6).map(" ".join)


@given(
    st.lists(st.tuples(st.sampled_from(["text", "text", "text", "row", "heading"]), paragraph), min_size=1, max_size=25)
)
@settings(max_examples=60, deadline=None)
def test_no_chunk_is_too_long_and_no_text_is_lost(content: list[tuple[str, str]]) -> None:
    blocks = [Block(text, kind, level=1 if kind == "heading" else 0) for kind, text in content]  # type: ignore[arg-type]  # the kinds are the literals
    chunks = cut("doc", Reading(blocks))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.id == f"doc#{chunk.ordinal}" for chunk in chunks)
    assert all(chunk.tokens <= CEILING + LONG for chunk in chunks)
    everything = " ".join(chunk.text + " " + chunk.section for chunk in chunks)
    assert all(_start(text) in " ".join(everything.split()) for _, text in content)
    assert [chunk.tokens for chunk in chunks] == count_tokens([chunk.text for chunk in chunks])


def _start(text: str) -> str:
    return " ".join(text.split()[:3])


@given(st.lists(paragraph, min_size=1, max_size=40), st.integers(60, 600))
@settings(max_examples=40, deadline=None)
def test_parts_hold_everything_within_the_size_asked_for(paragraphs: list[str], tokens: int) -> None:
    parts = split(Reading([Block(text) for text in paragraphs]), tokens)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert " ".join(" ".join(part.text for part in parts).split()) == " ".join(" ".join(paragraphs).split())
    assert all(count <= max(tokens, 200) for count in count_tokens([part.text for part in parts]))


def test_a_part_that_begins_within_a_section_names_it() -> None:
    body = " ".join(["The plan covers many visits of the plan."] * 40)
    parts = split(Reading([Block("4 Therapy", "heading", 1), Block(body)]), 100)
    assert len(parts) > 2
    assert parts[0].text.startswith("4 Therapy\n\nThe plan")
    assert all(part.text.startswith("4 Therapy (continued)\n\n") for part in parts[1:])


def test_each_clause_is_a_chunk_however_short() -> None:
    chunks = cut("doc", Reading([Block(f"1.{i} Term {i} means something.") for i in range(1, 30)]))
    assert [chunk.clause for chunk in chunks] == [f"1.{i}" for i in range(1, 30)]


def test_what_stands_below_a_heading_without_numbers_is_one_chunk() -> None:
    chunks = cut("doc", Reading([Block("Leave", "heading", 1), *(Block(f"Rule {i} of leave.") for i in range(5))]))
    assert [(chunk.section, chunk.clause) for chunk in chunks] == [("Leave", "")]
    assert chunks[0].text.startswith("Leave\n\nRule 0 of leave.\n\nRule 1")


def test_a_chunk_never_holds_text_of_two_sections() -> None:
    chunks = cut("doc", Reading([Block("A", "heading", 1), Block("One."), Block("B", "heading", 1), Block("Two.")]))
    assert [chunk.text for chunk in chunks] == ["A\n\nOne.", "B\n\nTwo."]


def test_a_long_clause_is_cut_at_its_items_and_each_keeps_the_opening_words() -> None:
    long = " ".join(["The visit is covered within the plan."] * 12)
    blocks = [Block("4.2 The plan covers:", page=3)]
    blocks += [
        Block(f"({letter}) {long}", page=page, page_end=page) for letter, page in zip("abc", (3, 4, 5), strict=True)
    ]
    chunks = cut("doc", Reading(blocks))
    assert [(chunk.clause, chunk.page, chunk.page_end) for chunk in chunks] == [
        ("4.2(a)", 3, 3),
        ("4.2(b)", 4, 4),
        ("4.2(c)", 5, 5),
    ]
    assert all(chunk.text.startswith("4.2 The plan covers:\n\n(") for chunk in chunks)


def test_a_short_clause_keeps_its_items_together() -> None:
    chunks = cut("doc", Reading([Block("4.2 Covered are:"), Block("(a) visits;"), Block("(b) equipment.")]))
    assert [chunk.clause for chunk in chunks] == ["4.2"]


def test_roman_items_stay_with_the_letter_above_them() -> None:
    long = " ".join(["The visit is covered within the plan."] * 12)
    items = ["(a) first", f"(i) {long}", f"(ii) {long}", f"(b) {long}"]
    chunks = cut("doc", Reading([Block("4.2 Covered are:"), *map(Block, items)]))
    assert [chunk.clause for chunk in chunks] == ["4.2(a)", "4.2(b)"]


def test_a_long_table_is_cut_between_rows_with_its_heading_and_pages() -> None:
    rows = [
        Block(
            f"Service: visit number {i}; Price: {i} dollars; Limit: none",
            "row",
            page=10 + i // 20,
            page_end=10 + i // 20,
        )
        for i in range(40)
    ]
    chunks = cut("doc", Reading([Block("13 Schedule", "heading", 1, 10, 10), *rows]))
    assert len(chunks) > 3
    assert all(chunk.text.startswith("13 Schedule\n\nService:") for chunk in chunks)
    assert all(chunk.tokens <= LOT + 10 for chunk in chunks)
    assert (chunks[0].page, chunks[-1].page, chunks[-1].page_end) == (10, 11, 11)
    assert chunks[0].section.startswith("13 Schedule › rows 1–")
    assert sum(chunk.text.count("Service:") for chunk in chunks) == 40


def test_a_chunk_over_a_page_break_names_both_pages() -> None:
    chunks = cut("doc", Reading([Block("4.2 Visits", "heading", 1, 3, 3), Block("It goes on.", page=3, page_end=4)]))
    assert (chunks[0].page, chunks[0].page_end) == (3, 4)


def test_a_sentence_without_spaces_is_cut_all_the_same() -> None:
    found = units_of([Block("x" * 9000)])
    assert "".join(unit.text for unit in found) == "x" * 9000
    assert all(len(unit.text) <= 1000 for unit in found)
