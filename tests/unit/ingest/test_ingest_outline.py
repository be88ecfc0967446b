"""What stands under which heading and clause."""

from services.ingest.domain.blocks import GUESSED_LEVEL, Block, Reading
from services.ingest.domain.outline import Section, outline


def sections(*blocks: Block | str, title: str = "") -> list[Section]:
    return outline(Reading([block if isinstance(block, Block) else Block(block) for block in blocks], title))


def heading(text: str, level: int) -> Block:
    return Block(text, "heading", level)


def seen(found: list[Section]) -> list[tuple[str, str]]:
    return [(section.clause, " › ".join(section.path)) for section in found]


def test_headings_make_a_path_and_their_numbers_clauses() -> None:
    found = sections(
        heading("4 Therapy", 1), heading("4.2 Physiotherapy", 2), "Covered.", heading("5 Hospital", 1), "A stay."
    )
    assert seen(found) == [("4.2", "4 Therapy › 4.2 Physiotherapy"), ("5", "5 Hospital")]


def test_headings_of_one_size_are_nested_by_their_numbers() -> None:
    found = sections(
        heading("4 Therapy", 1), heading("4.2 Physiotherapy", 1), "Covered.", heading("4.3 Speech", 1), "Too."
    )
    assert seen(found) == [("4.2", "4 Therapy › 4.2 Physiotherapy"), ("4.3", "4 Therapy › 4.3 Speech")]


def test_numbered_paragraphs_are_clauses_below_articles() -> None:
    found = sections(
        "ARTICLE I DEFINITIONS",
        "Section 1.01. Terms. As used here, terms have meanings.",
        "They go on.",
        "ARTICLE VII LIABILITY",
        "Section 7.01. None of the parties is liable.",
    )
    assert seen(found) == [
        ("1.01", "ARTICLE I DEFINITIONS › Section 1.01. Terms"),
        ("7.01", "ARTICLE VII LIABILITY"),
    ]
    assert len(found[0].blocks) == 2


def test_a_title_on_the_line_below_belongs_to_its_article() -> None:
    found = sections("ARTICLE IV", "LICENSES", "Section 4.01. Grant. The licence is granted.")
    assert seen(found) == [("4.01", "ARTICLE IV LICENSES › Section 4.01. Grant")]


def test_a_number_that_does_not_go_on_is_text() -> None:
    found = sections("1. First clause of all.", "17. September was a cold day.", "2. Second clause.")
    assert [section.clause for section in found] == ["1", "2"]
    assert len(found[0].blocks) == 2


def test_a_list_inside_a_decimal_clause_is_text() -> None:
    found = sections("4.2 The plan covers:", "1. Visits.", "2. Equipment.", "4.3 Nothing else is covered.")
    assert [section.clause for section in found] == ["4.2", "4.3"]


def test_numbers_may_begin_anew_in_an_appendix() -> None:
    found = sections(
        "8.1 Law of Utah applies here.", "Appendix A Prices", "1.1 Prices are in euros.", "2.1 Taxes are extra."
    )
    assert [section.clause for section in found] == ["8.1", "1.1", "2.1"]
    assert found[1].path == ("Appendix A Prices",)


def test_an_unnumbered_heading_inside_a_clause_keeps_its_number() -> None:
    found = sections(heading("4.2 Physiotherapy", 2), "Covered.", heading("Limits", 3), "Forty visits.")
    assert seen(found) == [("4.2", "4.2 Physiotherapy"), ("4.2", "4.2 Physiotherapy › Limits")]


def test_a_guessed_heading_is_closed_by_the_next_number() -> None:
    found = sections(heading("RECITALS", GUESSED_LEVEL), "Whereas.", "Section 1. Term. It begins now.")
    assert seen(found) == [("", "RECITALS"), ("1", "Section 1. Term")]


def test_the_title_of_the_document_is_not_in_the_path() -> None:
    found = sections(heading("Manual", 1), "Applies to all.", heading("2 Leave", 2), "Days.", title="Manual")
    assert seen(found) == [("", ""), ("2", "2 Leave")]


def test_a_heading_without_text_stays_unless_it_leads_to_others() -> None:
    found = sections(heading("4 Therapy", 1), heading("4.1 Visits", 2), "Text.", heading("Annex: left blank", 1))
    assert [section.heading.text if section.heading else "" for section in found] == ["4.1 Visits", "Annex: left blank"]


def test_table_rows_never_begin_a_section() -> None:
    found = sections(heading("9 Prices", 1), Block("4.2 Sensor: 12 EUR", "row"), Block("5 Cable: 1 EUR", "row"))
    assert len(found) == 1
    assert len(found[0].blocks) == 2
